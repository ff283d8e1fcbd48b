// What is clicked, typed and pressed.
let waiting = 0;
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", () => {
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(update);
});
form.addEventListener("reset", () => setTimeout(update)); // the fields are emptied after the event
mapsOnCards?.addEventListener("change", () => showPage(page));

for (const button of document.querySelectorAll("[data-outcome]")) {
  button.addEventListener("click", () => {
    form.reset();
    form.elements.outcome.value = button.dataset.outcome;
    setTimeout(() => {
      document.getElementById("crops").scrollIntoView();
      document.getElementById("crops").focus({ preventScroll: true });
    });
  });
}

detail.addEventListener("close", closeDetail);
detail.addEventListener("click", (event) => {
  if (event.target === detail) detail.close(); // beside it
});
detail.addEventListener("keydown", (event) => {
  const slides = event.target.type === "range" && event.key.startsWith("Arrow");
  if (slides || event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
});
byId("previous").addEventListener("click", KEYS.ArrowLeft);
byId("next").addEventListener("click", KEYS.ArrowRight);
byId("close").addEventListener("click", () => detail.close());
byId("show-map")?.addEventListener("change", showLayers);
byId("opacity")?.addEventListener("input", showLayers);
byId("show-frame")?.addEventListener("change", showLayers);
if (data.frame_px) placeSquare(detail.querySelector(".frame"));
update();
