(() => {
  // Figures are saved as they belong on paper, in the light theme, whatever the page shows.
  const probe = document.createElement("div");
  probe.dataset.theme = "light";
  probe.hidden = true;
  document.body.append(probe);
  const style = getComputedStyle(probe);
  const value = (name) => style.getPropertyValue(`--${name}`).trim();

  const hand = (svg, name) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
    link.download = `${name}.svg`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  };

  // An SVG of the page's own: its variables become the values that they stand for.
  const drawing = (svg) => {
    const text = new XMLSerializer().serializeToString(svg);
    return text.replace(/var\(--([\w-]+)\)/g, (_, name) => value(name).replaceAll('"', "'"));
  };

  const plotted = async (id, width) => {
    const { data, layout } = holdfastFigure(id, style);
    const named = data.filter((trace) => trace.name && trace.visible !== false && trace.showlegend !== false);
    const legend = { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" };
    const shown = { ...layout, width, paper_bgcolor: "#ffffff", showlegend: layout.showlegend || named.length > 1 };
    if (shown.showlegend && !layout.showlegend) Object.assign(shown, { legend, margin: { ...layout.margin, t: 56 } });
    const url = await Plotly.toImage({ data, layout: shown }, { format: "svg", width, height: layout.height });
    return decodeURIComponent(url.slice(url.indexOf(",") + 1));
  };

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button.save");
    if (!button) return;
    if (button.dataset.save === "spark") return hand(drawing(button.querySelector("svg")), button.dataset.name);
    const id = button.dataset.save;
    const svg = document.querySelector(`#${id}.drawing > svg`);
    hand(svg ? drawing(svg) : await plotted(id, Math.max(640, document.getElementById(id).clientWidth)), id.replace(/^fig-/, ""));
  });
})();
