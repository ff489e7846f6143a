// Sets light or dark colours. It is a plain script, so that it runs before the first paint.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;

  function saved() {
    try {
      const theme = localStorage.getItem("weir-theme");
      return theme === "light" || theme === "dark" ? theme : null;
    } catch {
      return null; // without storage, the system's choice holds
    }
  }

  function apply(theme) {
    root.dataset.theme = theme;
    const button = document.getElementById("theme");
    if (button) {
      button.setAttribute("aria-label", theme === "dark" ? "Light colours" : "Dark colours");
      button.title = button.getAttribute("aria-label");
    }
  }

  apply(saved() ?? (dark.matches ? "dark" : "light"));
  dark.addEventListener("change", () => {
    if (!saved()) apply(dark.matches ? "dark" : "light");
  });
  document.addEventListener("DOMContentLoaded", () => {
    apply(root.dataset.theme);
    document.getElementById("theme").addEventListener("click", () => {
      const theme = root.dataset.theme === "dark" ? "light" : "dark";
      try {
        localStorage.setItem("weir-theme", theme);
      } catch {
        // The choice holds until the page is left.
      }
      apply(theme);
    });
  });
})();
