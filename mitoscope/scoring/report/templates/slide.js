// A slide's page: the zoomable views and the cards know each other.
const zoom = makeZoom(data.views, data.kinds, data.outlines);
zoom.onPick((view, point) => {
  const place = shown.findIndex((row) => row.number === data.views[view].row[point]);
  if (place >= 0) openDetail(place);
});
byId("find").addEventListener("click", () => {
  const row = shown[current];
  detail.close();
  zoom.showKind(row.kind);
  if (zoom.current() !== 0) zoom.show(0);
  zoom.goTo(data.x_px[row.number], data.y_px[row.number]);
  document.getElementById("slide").scrollIntoView();
});
