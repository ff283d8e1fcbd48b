// How a crop is drawn: its Grad-CAM over the square that the networks see, and its probabilities on a line.
const WARM = [255, 190, 0];

// The square that the networks see, in percent of the crop; the same for every crop.
function placeSquare(node) {
  const side = (100 * data.frame_px) / data.crop_px;
  const edge = (100 - side) / 2;
  Object.assign(node.style, { left: `${edge}%`, top: `${edge}%`, width: `${side}%`, height: `${side}%` });
}

function drawMap(canvas, row) {
  const [height, width] = data.map_cells;
  const cells = Uint8Array.from(atob(data.map[row.number]), (letter) => letter.charCodeAt(0));
  const pixels = new ImageData(width, height);
  cells.forEach((value, cell) => {
    pixels.data.set([...WARM, value], 4 * cell);
  });
  const small = element("canvas", { width, height });
  small.getContext("2d").putImageData(pixels, 0, 0);
  Object.assign(canvas, { width: 16 * width, height: 16 * height });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
  placeSquare(canvas);
}

function strip(values) {
  const line = element("span", { className: "strip", ariaHidden: "true" });
  const at = (name, value) => {
    const mark = element(name);
    mark.style.left = `${100 * value}%`;
    return mark;
  };
  line.append(at("b", data.threshold), ...values.map((value) => at("i", value)));
  return line;
}

function dotPlot(row) {
  const plot = element("div", { className: "plot" });
  const add = (name, value, kind) => plot.append(
    element("span", { className: kind, textContent: name }),
    element("span", { className: kind }, strip([value])),
    element("span", { className: kind, textContent: value.toFixed(3) }),
  );
  row.members.forEach((value, number) => add(`network ${number}`, value, "member"));
  add("mean", row.p, "mean");
  plot.append(element("span"), element("span", { className: "ends", ariaHidden: "true" },
    element("span", { textContent: "0 normal" }), element("span", { textContent: "atypical 1" })));
  return plot;
}

function verdict(row) {
  if (!labelled) return [row.what ?? `called ${row.called}`];
  return [tag(OUTCOMES[row.outcome], isWrong(row) ? "wrong" : "right"), ` called ${row.called}, labelled ${row.label}`];
}
