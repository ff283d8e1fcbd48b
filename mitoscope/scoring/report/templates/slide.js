// A slide's page: the zoomable views and the cards know each other.
const zoom = makeZoom(data.views, data.kinds, data.outlines);
const findCard = (number) => shown.findIndex((row) => row.number === number);

zoom.onPick((view, point) => {
  const number = data.views[view].row[point];
  if (number < 0) return; // it has no card; the line below the image describes it
  if (findCard(number) < 0) { // the filters hide it
    form.reset();
    form.elements.kind.value = "";
    update();
    document.getElementById("zoom-point").textContent += ". The filters below were cleared to show its card.";
  }
  openDetail(findCard(number));
});

// The sharpest view that shows a card's place.
function findView(number) {
  const showing = data.views.map((_, which) => which).filter((which) => data.views[which].row.includes(number));
  return showing.sort((a, b) => data.views[a].mpp - data.views[b].mpp)[0];
}

byId("find").addEventListener("click", () => {
  const row = shown[current];
  detail.close();
  zoom.showKind(row.kind);
  const view = findView(row.number);
  if (zoom.current() !== view) zoom.show(view);
  zoom.goTo(data.x_px[row.number], data.y_px[row.number]);
  document.getElementById("slide").scrollIntoView();
});
