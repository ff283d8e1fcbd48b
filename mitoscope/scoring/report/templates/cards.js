// The list of crops, a page at a time: however many there are, few are in the document.
const PER_PAGE = 60;
const cards = document.getElementById("cards");
const mapsOnCards = document.getElementById("maps-on-cards");
let shown = [];
let page = 0;

function tail(text, length = 20) {
  const letters = [...text];
  return letters.length > length ? `…${letters.slice(1 - length).join("")}` : text;
}

function makeCard(row, place) {
  const look = element("span", { className: "look" }, element("img", { src: imageOf(row), alt: "", width: 128, height: 128 }));
  if (mapsOnCards?.checked) {
    const map = element("canvas");
    drawMap(map, row);
    map.style.opacity = 0.55;
    look.append(map);
  }
  if (row.unlike.length) look.append(tag("unlike training", "unlike"));
  const word = labelled ? tag(OUTCOMES[row.outcome], isWrong(row) ? "wrong" : "right") : tag(row.called, "called");
  const text = element("span", { className: "text" },
    element("span", { className: "line" }, element("span", { className: "p", textContent: row.p.toFixed(3) }), word),
    strip(row.members.length ? row.members : [row.p]),
    element("span", { className: "name", textContent: tail(row.image_id), title: row.image_id }));
  const card = element("button", { type: "button", className: labelled && isWrong(row) ? "card wrong" : "card" }, look, text);
  card.ariaLabel = `${row.image_id}: P(atypical) ${row.p.toFixed(3)}, called ${row.called}`
    + (labelled ? `, labelled ${row.label}` : "") + (row.unlike.length ? ", unlike the training data" : "");
  card.addEventListener("click", () => openDetail(place));
  return element("li", {}, card);
}

function showPage(number) {
  const pages = Math.max(1, Math.ceil(shown.length / PER_PAGE));
  page = Math.min(Math.max(number, 0), pages - 1);
  const first = page * PER_PAGE;
  cards.replaceChildren(...shown.slice(first, first + PER_PAGE).map((row, place) => makeCard(row, first + place)));
  for (const nav of document.querySelectorAll(".pages")) {
    nav.querySelector(".where").textContent = `page ${page + 1} of ${pages}`;
    nav.querySelector('[data-page="-1"]').disabled = page === 0;
    nav.querySelector('[data-page="1"]').disabled = page === pages - 1;
  }
}

function update() {
  shown = selectRows();
  showPage(0);
  const all = rows.length.toLocaleString("en");
  const some = shown.length === rows.length ? `All ${all} crops` : `${shown.length.toLocaleString("en")} of ${all} crops`;
  const wrong = labelled ? `, ${shown.filter(isWrong).length.toLocaleString("en")} of them wrong` : "";
  document.getElementById("count").textContent = shown.length ? some + wrong : "No crop matches. Clear shows all";
}
