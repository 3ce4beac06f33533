(() => {
  const specs = JSON.parse(document.getElementById("figures").textContent);
  const narrow = 520;
  const off = new Set();
  const paper = { whole: 640, half: 300 }; // widths of figures on a printed page, which cannot be measured beforehand
  let printing = false;
  const near = new Set();
  const fresh = new Set();

  // "@name/opacity" stands for a CSS variable of the page, so that the theme decides.
  const paint = (token, style) => {
    const [name, opacity] = token.slice(1).split("/");
    const value = style.getPropertyValue(`--${name}`).trim();
    if (opacity === undefined) return value;
    const [r, g, b] = [1, 3, 5].map((at) => parseInt(value.slice(at, at + 2), 16));
    return `rgba(${r},${g},${b},${opacity})`;
  };
  const resolve = (node, style) => {
    if (typeof node === "string") return node.startsWith("@") ? paint(node, style) : node;
    if (Array.isArray(node)) return node.map((item) => resolve(item, style));
    if (node === null || typeof node !== "object") return node;
    return Object.fromEntries(Object.entries(node).map(([key, value]) => [key, resolve(value, style)]));
  };

  // A figure as plotly takes it, in the colors of a style, without the recipes that are switched off.
  const made = (id, style) => {
    const figure = resolve(specs[id], style);
    for (const trace of figure.data) if (trace.meta && off.has(String(trace.meta.arm))) trace.visible = false;
    return figure;
  };
  window.holdfastFigure = made;

  const draw = (box) => {
    const width = !printing || !box.clientWidth ? box.clientWidth : box.closest(".grid") ? paper.half : paper.whole;
    if (!width || fresh.has(box)) return;
    fresh.add(box);
    const { data, layout } = made(box.id, getComputedStyle(document.documentElement));
    for (const trace of data) if (trace.meta?.labeled && width < narrow) trace.mode = "markers";
    Plotly.react(box, data, { ...layout, width }, { displayModeBar: false });
  };
  const boxes = [...document.querySelectorAll(".plot")];
  // What is in sight is drawn at once, the rest one by one when there is time.
  const later = window.requestIdleCallback ?? ((work) => setTimeout(work, 50));
  const drawRest = () => {
    const next = boxes.find((box) => box.clientWidth && !fresh.has(box));
    if (!next) return;
    draw(next);
    later(drawRest);
  };
  const redraw = () => {
    fresh.clear();
    near.forEach(draw);
    later(drawRest);
  };

  const approach = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) near.add(target);
      else near.delete(target);
      if (isIntersecting) draw(target);
    }
  }, { rootMargin: "400px 0px" });
  const resize = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.clientWidth === Number(target.dataset.width)) continue;
      target.dataset.width = target.clientWidth;
      fresh.delete(target);
      if (near.has(target)) draw(target);
    }
  });
  for (const box of boxes) {
    box.replaceChildren();
    approach.observe(box);
    resize.observe(box);
  }
  later(drawRest);
  document.addEventListener("themechange", redraw);
  addEventListener("beforeprint", () => {
    printing = true;
    fresh.clear();
    boxes.forEach(draw);
  });
  addEventListener("afterprint", () => {
    printing = false;
    redraw();
  });

  const buttons = [...document.querySelectorAll("button[data-arm]")];
  for (const button of buttons) {
    button.addEventListener("click", () => {
      const arm = button.dataset.arm;
      if (!off.delete(arm)) off.add(arm);
      for (const twin of buttons) twin.setAttribute("aria-pressed", String(!off.has(twin.dataset.arm)));
      for (const alone of document.querySelectorAll(`figure[data-only="${CSS.escape(arm)}"]`)) alone.classList.toggle("off", off.has(arm));
      redraw();
    });
  }
})();
