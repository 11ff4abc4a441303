"use strict";
// Before anything is painted: the theme chosen last time, if any; else what the system prefers.
document.documentElement.classList.add("js");
try {
  const chosen = localStorage.getItem("adasid-theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
} catch (refused) {
  document.documentElement.dataset.storage = "none"; // private windows: the choice lasts as long as the page
}
