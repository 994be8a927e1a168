// WebKit calls the language `C` where the environment has no other locale, and Intl throws at that name. The charts' library asks
// it while it loads, so this comes before.
try {
  new Intl.NumberFormat(navigator.language);
} catch {
  Object.defineProperty(navigator, "language", { value: "en-US" });
}
