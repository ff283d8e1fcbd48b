// Candidates for hard negatives: a click leaves one out, and the rest is saved as a table.
const form = document.getElementById("filters");
const rows = data.crop.map((crop, number) => ({ number, crop, p: data.p[number], image: data.image[number], left: false }));

function makeCard(row) {
  const word = tag("", "called");
  const look = element("span", { className: "look" },
    element("img", { src: `data:image/webp;base64,${row.crop}`, alt: "", width: 128, height: 128 }));
  const text = element("span", { className: "text" },
    element("span", { className: "line" }, element("span", { className: "p", textContent: row.p.toFixed(3) }), word),
    element("span", { className: "name", textContent: row.image, title: row.image }));
  const card = element("button", { type: "button" }, look, text);
  const draw = () => {
    word.textContent = row.left ? "left out" : "kept";
    card.className = row.left ? "card wrong" : "card";
    card.ariaPressed = String(row.left);
    card.ariaLabel = `${row.image}, probability ${row.p.toFixed(3)}, ${word.textContent}`;
  };
  card.addEventListener("click", () => {
    row.left = !row.left;
    draw();
    count();
  });
  draw();
  return element("li", {}, card);
}

function count() {
  const kept = rows.filter((row) => !row.left).length.toLocaleString("en");
  document.getElementById("count").textContent = `${kept} of ${rows.length.toLocaleString("en")} are kept`;
}

function update() {
  const which = form.elements.which.value;
  shown = rows.filter((row) => which === "" || row.left === (which === "left"));
  if (form.elements.sort.value === "image") shown.sort((a, b) => (a.image < b.image ? -1 : Number(a.image > b.image)) || a.number - b.number);
  showPage(0);
  count();
}

document.getElementById("save").addEventListener("click", () => {
  const lines = [data.head, ...rows.filter((row) => !row.left).map((row) => data.lines[row.number])];
  const address = `data:text/csv;charset=utf-8,${encodeURIComponent(`${lines.join("\n")}\n`)}`;
  element("a", { href: address, download: data.file }).click();
});
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", update);
update();
