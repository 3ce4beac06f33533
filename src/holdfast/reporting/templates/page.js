(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // A section shows the panels that match every choice made in it.
  const filter = (scope) => {
    const choices = all("select[data-filter]", scope).map((select) => [select.dataset.filter, select.value]);
    for (const panel of all("[data-panel]", scope)) {
      panel.hidden = choices.some(([key, value]) => key in panel.dataset && panel.dataset[key] !== value);
    }
    updateTabStops(scope);
  };

  // A box that scrolls must be reachable with the Tab key; one that does not scroll must not be a stop.
  const updateTabStops = (scope) => {
    for (const box of all(".scroll, .sample pre, .answers", scope)) {
      if (box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  };

  for (const scope of all(".scope")) {
    scope.addEventListener("change", (event) => event.target.matches("select[data-filter]") && filter(scope));
    filter(scope);
  }
  updateTabStops(document);
  addEventListener("resize", () => updateTabStops(document));
  addEventListener("toggle", (event) => updateTabStops(event.target), true);

  const links = new Map(all("nav a").map((link) => [link.hash.slice(1), link]));
  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const link = links.get(target.id);
      if (isIntersecting) {
        link.setAttribute("aria-current", "true");
        link.parentElement.scrollLeft = link.offsetLeft - link.parentElement.offsetLeft - 16; // on a narrow screen the bar itself scrolls
      } else link.removeAttribute("aria-current");
    }
  }, { rootMargin: "-25% 0px -65% 0px" });
  for (const id of links.keys()) seen.observe(document.getElementById(id));
})();
