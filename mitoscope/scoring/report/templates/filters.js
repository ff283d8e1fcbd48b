// Which crops are shown, and in which order: read from the form, computed from the rows.
const form = document.getElementById("filters");

const ORDERS = {
  "error": (a, b) => isWrong(b) - isWrong(a) || (isWrong(a) ? b.distance - a.distance : a.distance - b.distance),
  "m-down": (a, b) => b.pMitosis - a.pMitosis,
  "m-up": (a, b) => a.pMitosis - b.pMitosis,
  "m-near": (a, b) => Math.abs(a.pMitosis - data.threshold_mitosis) - Math.abs(b.pMitosis - data.threshold_mitosis),
  "p-down": (a, b) => b.p - a.p,
  "p-up": (a, b) => a.p - b.p,
  "near": (a, b) => a.distance - b.distance,
  "far": (a, b) => b.distance - a.distance,
  "disagree": (a, b) => b.disagreement - a.disagreement,
  "agree": (a, b) => a.disagreement - b.disagreement,
  "name": (a, b) => (a.image_id < b.image_id ? -1 : 1),
  "file": (a, b) => a.number - b.number,
};

function selectRows() {
  const field = (name) => form.elements[name]?.value.trim() ?? "";
  const limit = (name, otherwise) => (field(name) === "" ? otherwise : Number(field(name)));
  const [text, outcome, called, label] = [field("text").toLowerCase(), field("outcome"), field("called"), field("label")];
  const [domain, unlike] = [field("domain"), field("unlike")];
  const [from, to, distance, apart] = [limit("p-from", 0), limit("p-to", 1), limit("distance", 1), limit("disagreement", 0)];
  const strange = { "": () => true, "any": (row) => row.unlike.length > 0, "none": (row) => row.unlike.length === 0 }[unlike]
    ?? ((row) => row.unlike.includes(reasons[unlike]));
  const kinds = { "mitotic": (row) => row.isMitotic, "hotspot": (row) => row.isMitotic && row.inHotspot, "below": (row) => !row.isMitotic,
    "below-hotspot": (row) => !row.isMitotic && row.inHotspot };
  const isKind = kinds[field("kind")] ?? (() => true);
  const fits = { "": () => true, "wrong": isWrong, "right": (row) => !isWrong(row) }[outcome] ?? ((row) => row.outcome === outcome);
  const chosen = rows.filter((row) =>
    row.lowered.includes(text)
    && fits(row)
    && isKind(row)
    && (!called || row.called === called)
    && (!label || row.label === label)
    && (!domain || row.domain === domains[domain])
    && strange(row)
    && row.p >= from && row.p <= to && row.distance <= distance && row.disagreement >= apart);
  return chosen.sort(ORDERS[field("sort")]);
}

// The choices that depend on the data. Their values are numbers, so that no name can pass for a word of ours.
function fillSelect(name, texts) {
  const options = texts.map((text, number) => element("option", { value: String(number), textContent: text }));
  form.elements[name]?.append(...options);
}

const distinct = (values) => [...new Set(values)].sort();
const domains = distinct(rows.map((row) => row.domain).filter((domain) => domain !== null));
const reasons = distinct(rows.flatMap((row) => row.unlike));
fillSelect("domain", domains);
fillSelect("unlike", reasons);
