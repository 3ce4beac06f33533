(() => {
  // Saved figures are for paper: they use the light theme, whatever theme the page shows.
  const probe = document.createElement("div");
  probe.dataset.theme = "light";
  probe.hidden = true;
  document.body.append(probe);
  const style = getComputedStyle(probe);
  const value = (name) => style.getPropertyValue(`--${name}`).trim();

  const download = (svg, name) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
    link.download = `${name}.svg`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  };

  // A small curve is inline SVG; in the file, its CSS variables become their values.
  const smallCurve = (svg) => {
    const text = new XMLSerializer().serializeToString(svg);
    return text.replace(/var\(--([\w-]+)\)/g, (_, name) => value(name).replaceAll('"', "'"));
  };

  // The page's recipe buttons are not in the file, so a figure with several named traces gets a legend.
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
    if (button.dataset.save === "spark") return download(smallCurve(button.querySelector("svg")), button.dataset.name);
    const id = button.dataset.save;
    const width = Math.max(640, document.getElementById(id).clientWidth);
    download(await plotted(id, width), id.replace(/^fig-/, ""));
  });
})();
