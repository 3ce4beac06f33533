(() => {
  // A browser may forbid storage, e.g. for a page opened from a file. Then the choice lasts as long as the page is open.
  const stored = () => { try { return localStorage.getItem("holdfast-theme"); } catch { return null; } };
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  const show = (theme) => {
    root.dataset.theme = theme;
    const button = document.getElementById("theme");
    if (button) button.setAttribute("aria-pressed", String(theme === "dark"));
    document.dispatchEvent(new Event("themechange"));
  };
  let chosen = stored();
  const current = () => (chosen === "dark" || chosen === "light" ? chosen : dark.matches ? "dark" : "light");
  show(current());
  dark.addEventListener("change", () => show(current()));
  addEventListener("beforeprint", () => show("light"));
  addEventListener("afterprint", () => show(current()));
  document.addEventListener("DOMContentLoaded", () => {
    show(current());
    document.getElementById("theme").addEventListener("click", () => {
      chosen = current() === "dark" ? "light" : "dark";
      try { localStorage.setItem("holdfast-theme", chosen); } catch { /* `chosen` still holds it */ }
      show(chosen);
    });
  });
})();
