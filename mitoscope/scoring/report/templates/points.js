// The page of a detector's result: crops of what was found, missed and wrong, and their places in the images.
const form = document.getElementById("filters");
const zoom = makeZoom(data.views, data.kinds);
const rows = data.crop.map((crop, number) => ({
  number, crop, p: data.p[number], kind: data.kind[number], view: data.view[number], caseName: data.case[number],
  x: data.x_px[number], y: data.y_px[number], onLookAlike: data.on_look_alike[number], point: data.point[number],
}));
const WRONG = ["false alarm", "missed"];
const nameOf = (row) => data.kinds[row.kind].name;
const textOf = (p) => (p === null ? "–" : p.toFixed(3));

function makeCard(row) {
  const wrong = WRONG.includes(nameOf(row));
  const look = element("span", { className: "look" },
    element("img", { src: `data:image/webp;base64,${row.crop}`, alt: "", width: 128, height: 128 }));
  if (row.onLookAlike) look.append(tag("labelled look-alike", "unlike"));
  const image = data.views[row.view].name;
  const text = element("span", { className: "text" },
    element("span", { className: "line" }, element("span", { className: "p", textContent: textOf(row.p) }),
      tag(nameOf(row), wrong ? "wrong" : "right")),
    element("span", { className: "name", textContent: image, title: image }));
  const card = element("button", { type: "button", className: wrong ? "card wrong" : "card" }, look, text);
  card.ariaLabel = `${nameOf(row)}, probability ${textOf(row.p)}, in ${image}`;
  card.addEventListener("click", () => {
    if (zoom.current() !== row.view) zoom.show(row.view);
    zoom.goTo(row.x, row.y);
    document.getElementById("image").scrollIntoView();
    document.getElementById("zoom-image").focus({ preventScroll: true });
  });
  return element("li", {}, card);
}

const ORDERS = {
  "p-down": (a, b) => (b.p ?? -1) - (a.p ?? -1) || a.number - b.number,
  "p-up": (a, b) => (a.p ?? -1) - (b.p ?? -1) || a.number - b.number,
  "file": (a, b) => a.view - b.view || (b.p ?? -1) - (a.p ?? -1),
};

function update() {
  const field = (name) => form.elements[name].value;
  const fits = (row, name) => field(name) === "" || row[name] === Number(field(name));
  shown = rows.filter((row) => fits(row, "kind") && fits(row, "view")).sort(ORDERS[field("sort")]);
  showPage(0);
  const all = rows.length.toLocaleString("en");
  document.getElementById("count").textContent = shown.length === rows.length
    ? `All ${all} crops` : `${shown.length.toLocaleString("en")} of ${all} crops`;
}

data.kinds.forEach((kind, number) => {
  if (rows.some((row) => row.kind === number)) {
    form.elements.kind.append(element("option", { value: String(number), textContent: kind.name }));
  }
});
data.views.forEach((view, number) => form.elements.view.append(element("option", { value: String(number), textContent: view.name })));
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", update);
form.addEventListener("reset", () => setTimeout(update)); // the fields are emptied after the event
update();
