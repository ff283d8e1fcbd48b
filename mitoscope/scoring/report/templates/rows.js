// The page's data, one object a crop.
const labelled = data.label !== null;
const CLASSES = ["normal", "atypical"];

function outcomeOf(called, label) {
  if (called === label) return `true ${label}`;
  return label === "atypical" ? "missed" : "false alarm";
}

const rows = data.image_id.map((image_id, number) => {
  const members = data.members[number] ?? [];
  const called = CLASSES[data.called[number]];
  const label = labelled ? CLASSES[data.label[number]] : null;
  const p = data.p_atypical[number];
  return {
    number, image_id, members, called, label, p,
    pMitosis: data.p_mitosis?.[number] ?? null, // on a slide's page only, as the next four
    kind: data.kind?.[number] ?? null, // of data.kinds
    what: data.kinds?.[data.kind[number]].name ?? null,
    isMitotic: data.p_mitosis === undefined || data.p_mitosis[number] >= data.threshold_mitosis,
    inHotspot: data.in_hotspot?.[number] ?? false,
    lowered: image_id.toLowerCase(),
    disagreement: members.length ? Math.max(...members) - Math.min(...members) : 0,
    distance: Math.abs(p - data.threshold),
    outcome: labelled ? outcomeOf(called, label) : null,
    domain: data.domain?.[number] ?? null,
    caseName: data.case?.[number] ?? null,
    unlike: data.unlike?.[number] ?? [],
  };
});

const isWrong = (row) => row.outcome === "missed" || row.outcome === "false alarm";
const OUTCOMES = { "missed": "missed", "false alarm": "false alarm", "true atypical": "found", "true normal": "right" };
const imageOf = (row) => `data:image/webp;base64,${data.image[row.number]}`;
