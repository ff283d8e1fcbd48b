// A card of a crop, and which of them are listed.
const mapsOnCards = document.getElementById("maps-on-cards");

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
  const p = (name, value) => element("span", { className: "line" }, element("span", { className: "quiet", textContent: name }), element("span", { textContent: value.toFixed(3) }));
  const heading = row.what === null
    ? [element("span", { className: "line" }, element("span", { className: "p", textContent: row.p.toFixed(3) }), word)]
    : [element("span", { className: "what", textContent: row.what }), p("P(mitosis)", row.pMitosis), p("P(atypical)", row.p)];
  const text = element("span", { className: "text" }, ...heading,
    strip(row.members.length ? row.members : [row.p]),
    element("span", { className: "name", textContent: tail(row.image_id), title: row.image_id }));
  const card = element("button", { type: "button", className: labelled && isWrong(row) ? "card wrong" : "card" }, look, text);
  card.ariaLabel = `${row.image_id}: P(atypical) ${row.p.toFixed(3)}, ${row.what ?? `called ${row.called}`}`
    + (row.pMitosis === null ? "" : `, P(mitosis) ${row.pMitosis.toFixed(3)}`)
    + (labelled ? `, labelled ${row.label}` : "") + (row.unlike.length ? ", unlike the training data" : "");
  card.addEventListener("click", () => openDetail(place));
  return element("li", {}, card);
}

function update() {
  shown = selectRows();
  showPage(0);
  const all = rows.length.toLocaleString("en");
  const some = shown.length === rows.length ? `All ${all} crops` : `${shown.length.toLocaleString("en")} of ${all} crops`;
  const wrong = labelled ? `, ${shown.filter(isWrong).length.toLocaleString("en")} of them wrong` : "";
  document.getElementById("count").textContent = shown.length ? some + wrong : `No crop matches. Clear shows all${data.p_mitosis ? " mitotic figures" : ""}`;
}
