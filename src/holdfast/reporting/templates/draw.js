(() => {
  const specs = JSON.parse(document.getElementById("figures").textContent);
  const narrow = 520; // pixels; narrower figures lose their labels
  const off = new Set(); // recipes that are switched off
  const paper = { whole: 640, half: 300 }; // widths of figures on a printed page, which cannot be measured before printing
  let printing = false;
  const near = new Set(); // figures in or near the visible part of the page
  const fresh = new Set(); // figures drawn with the current theme, width and recipes

  // "@name/opacity" stands for a CSS variable of the page, so a figure follows the theme.
  const paint = (token, style) => {
    const [name, opacity] = token.slice(1).split("/");
    const value = style.getPropertyValue(`--${name}`).trim();
    if (!value) return token; // a label may begin with "@" too
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

  // A figure's specification for plotly: colors from `style`, recipes that are switched off hidden.
  const prepared = (id, style) => {
    const figure = resolve(specs[id], style);
    for (const trace of figure.data) if (trace.meta && off.has(String(trace.meta.recipe))) trace.visible = false;
    return figure;
  };
  window.holdfastFigure = prepared;

  const draw = (box) => {
    const width = !printing || !box.clientWidth ? box.clientWidth : box.closest(".grid") ? paper.half : paper.whole;
    if (!width || fresh.has(box)) return;
    fresh.add(box);
    const { data, layout } = prepared(box.id, getComputedStyle(document.documentElement));
    for (const trace of data) if (trace.meta?.labeled && width < narrow) trace.mode = "markers";
    Plotly.react(box, data, { ...layout, width }, { displayModeBar: false });
  };
  const boxes = [...document.querySelectorAll(".plot")];
  // Visible figures are drawn at once, all others one by one when the browser is idle.
  const whenIdle = window.requestIdleCallback ?? ((work) => setTimeout(work, 50));
  const drawRest = () => {
    const next = boxes.find((box) => box.clientWidth && !fresh.has(box));
    if (!next) return;
    draw(next);
    whenIdle(drawRest);
  };
  const redraw = () => {
    fresh.clear();
    near.forEach(draw);
    whenIdle(drawRest);
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
  whenIdle(drawRest);
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

  const buttons = [...document.querySelectorAll("button[data-toggle]")];
  for (const button of buttons) {
    button.addEventListener("click", () => {
      const recipe = button.dataset.toggle;
      if (!off.delete(recipe)) off.add(recipe);
      for (const twin of buttons) twin.setAttribute("aria-pressed", String(!off.has(twin.dataset.toggle)));
      for (const alone of document.querySelectorAll(`figure[data-only="${CSS.escape(recipe)}"]`)) alone.classList.toggle("off", off.has(recipe));
      redraw();
    });
  }
})();
