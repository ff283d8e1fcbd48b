// One crop, large. The dialog is the browser's own: it holds the focus, Escape closes it.
const byId = (name) => document.getElementById(`detail-${name}`);
const detail = document.getElementById("detail");
let current = 0;

function facts(row) {
  const pairs = [["P(atypical)", `${row.p.toFixed(3)}, threshold ${data.threshold.toFixed(3)}`],
    [row.pMitosis === null ? "to the threshold" : "P(atypical) to its threshold", row.distance.toFixed(3)]];
  if (row.members.length) {
    const above = row.members.filter((value) => value >= data.threshold).length;
    pairs.push(["disagreement", row.disagreement.toFixed(3)],
      ["networks for atypical", `${above} of ${row.members.length}`]);
  }
  if (row.pMitosis !== null) {
    pairs.unshift(["P(mitosis)", `${row.pMitosis.toFixed(3)}, threshold ${data.threshold_mitosis.toFixed(3)}`]);
    const within = row.isMitotic ? "yes" : "lies in it, not counted";
    pairs.push(["in the hotspot", row.inHotspot ? within : "no"],
      ["place", `x ${data.x_px[row.number].toFixed(0)}, y ${data.y_px[row.number].toFixed(0)} px`]);
  }
  if (labelled) pairs.push(["label", row.label]);
  if (row.domain !== null) pairs.push(["domain", row.domain]);
  if (row.caseName !== null) pairs.push(["case", row.caseName]);
  if (row.unlike.length) pairs.push(["unlike the training data", row.unlike.join("; ")]);
  return pairs.flatMap(([name, value]) => [element("dt", { textContent: name }), element("dd", { textContent: value })]);
}

function showDetail(place) {
  current = Math.min(Math.max(place, 0), shown.length - 1);
  const row = shown[current];
  byId("title").textContent = row.image_id;
  byId("place").textContent = `${(current + 1).toLocaleString("en")} of ${shown.length.toLocaleString("en")}`;
  byId("image").src = imageOf(row);
  byId("image").alt = `Crop ${row.image_id}`;
  byId("verdict").replaceChildren(...verdict(row));
  byId("plot").replaceChildren(dotPlot(row));
  byId("facts").replaceChildren(...facts(row));
  byId("previous").disabled = current === 0;
  byId("next").disabled = current === shown.length - 1;
  if (!detail.contains(document.activeElement) || document.activeElement.disabled) byId("title").focus();
  if (data.map) drawMap(byId("map"), row);
  showLayers();
}

function showLayers() {
  byId("map").hidden = !byId("show-map")?.checked;
  byId("map").style.opacity = (byId("opacity")?.value ?? 0) / 100;
  detail.querySelector(".frame").hidden = !byId("show-frame")?.checked;
}

function openDetail(place) {
  detail.showModal();
  showDetail(place);
  byId("title").focus();
}

function closeDetail() {
  if (Math.floor(current / PER_PAGE) !== page) showPage(Math.floor(current / PER_PAGE));
  cards.children[current - page * PER_PAGE].firstElementChild.focus();
}

function toggle(name) {
  const box = byId(name);
  if (!box) return;
  box.checked = !box.checked;
  showLayers();
}

const KEYS = {
  "ArrowLeft": () => showDetail(current - 1),
  "ArrowRight": () => showDetail(current + 1),
  "g": () => toggle("show-map"),
  "f": () => toggle("show-frame"),
};
