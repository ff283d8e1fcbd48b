// An image in tiles with points on it (mitoscope/scoring/report/zoom.py), shown by OpenSeadragon. All tiles are in the page.
const CLOSE_UM = 60; // width of the view that goTo shows
const RADIUS = 9; // of a mark, in pixels of the screen
const REACH = 14; // of a click

function makeZoom(views, kinds, outlines = []) {
  const part = (name) => document.getElementById(`zoom-${name}`);
  const marks = element("canvas", { className: "marks" });
  let number = 0;
  let pick = () => {};
  const shownKinds = kinds.map((kind) => kind.shown);
  const viewer = OpenSeadragon({
    element: part("image"), drawer: "canvas", showNavigationControl: false, showNavigator: true, navigatorPosition: "BOTTOM_RIGHT", animationTime: 0.4,
    maxZoomPixelRatio: 4, visibilityRatio: 0.5, gestureSettingsMouse: { clickToZoom: false }, loadTilesWithAjax: false,
  });

  function source(view) {
    const last = view.levels.length - 1;
    return {
      width: view.width_px, height: view.height_px, tileSize: view.tile_px, tileOverlap: view.overlap_px, minLevel: 0, maxLevel: last,
      getTileUrl: (level, x, y) => {
        const across = Math.ceil(Math.ceil(view.width_px / 2 ** (last - level)) / view.tile_px);
        return `data:image/jpeg;base64,${view.levels[level][y * across + x]}`;
      },
    };
  }

  // Pixels of level 0 → pixels of the element.
  function measure(view) {
    const [from, to] = [0, 1000].map((place) => viewer.viewport.imageToViewerElementCoordinates(new OpenSeadragon.Point(place, place)));
    const [across, down] = view.scale.map((scale) => (to.x - from.x) / 1000 / scale);
    return new DOMMatrix([across, 0, 0, down, from.x - across * view.origin[0], from.y - down * view.origin[1]]);
  }

  // A place of level 0 → pixels of the view's finest level.
  const toImage = (view, places) => places.map((place, axis) => (place - view.origin[axis]) / view.scale[axis]);
  const placeOf = (view, row, matrix) => matrix.transformPoint({ x: view.x[row], y: view.y[row] });

  const paths = outlines.map((outline) => {
    const path = new Path2D();
    for (const ring of outline.rings) {
      ring.forEach(([x, y], corner) => (corner ? path.lineTo(x, y) : path.moveTo(x, y)));
      path.closePath();
    }
    return path;
  });

  function drawOutlines(context, matrix) {
    outlines.forEach((outline, row) => {
      const path = new Path2D();
      path.addPath(paths[row], matrix);
      Object.assign(context, { lineWidth: outline.width, strokeStyle: outline.colour });
      context.stroke(path);
    });
  }

  function drawMark(context, at, kind) {
    context.beginPath();
    if (kind.shape === "square") context.rect(at.x - RADIUS, at.y - RADIUS, 2 * RADIUS, 2 * RADIUS);
    else if (kind.shape === "cross") {
      for (const side of [-1, 1]) {
        context.moveTo(at.x - RADIUS, at.y - side * RADIUS);
        context.lineTo(at.x + RADIUS, at.y + side * RADIUS);
      }
    } else context.arc(at.x, at.y, RADIUS, 0, 2 * Math.PI);
    for (const [width, colour] of [[4.5, "#ffffffcc"], [2.5, kind.colour]]) {
      Object.assign(context, { lineWidth: width, strokeStyle: colour });
      context.stroke();
    }
  }

  function drawMarks() {
    const view = views[number];
    const box = part("image").getBoundingClientRect();
    const ratio = window.devicePixelRatio || 1;
    Object.assign(marks, { width: box.width * ratio, height: box.height * ratio });
    if (!viewer.world.getItemCount()) return;
    const context = marks.getContext("2d");
    context.scale(ratio, ratio);
    const matrix = measure(view);
    drawOutlines(context, matrix);
    view.x.forEach((_, row) => {
      const at = placeOf(view, row, matrix);
      const inside = at.x > -RADIUS && at.y > -RADIUS && at.x < box.width + RADIUS && at.y < box.height + RADIUS;
      if (shownKinds[view.kind[row]] && inside) drawMark(context, at, kinds[view.kind[row]]);
    });
    const wide = viewer.viewport.viewportToImageRectangle(viewer.viewport.getBounds(true)).width * view.mpp;
    part("scale").textContent = `The view is ${wide < 1000 ? `${wide.toFixed(0)} µm` : `${(wide / 1000).toFixed(2)} mm`} wide.`;
  }

  function show(which) {
    number = which;
    part("view").value = String(which);
    part("point").textContent = "";
    viewer.open(source(views[which]));
  }

  // Centre a place of level 0, and show as much around it, in µm; at once, or as a movement.
  function moveTo(x, y, wideUm, highUm, atOnce) {
    const view = views[number];
    const [wide, high] = [wideUm, highUm].map((size) => size / view.mpp);
    const [left, top] = toImage(view, [x, y]);
    const box = new OpenSeadragon.Rect(left - wide / 2, top - high / 2, wide, high);
    const move = () => viewer.viewport.fitBounds(viewer.viewport.imageToViewportRectangle(box), atOnce);
    if (viewer.isOpen()) move();
    else viewer.addOnceHandler("open", move);
  }

  const goTo = (x, y) => moveTo(x, y, CLOSE_UM, CLOSE_UM, false);

  // Another view of the same place, if it is enlarged and that view holds it.
  function change(which) {
    const view = views[number];
    const seen = viewer.viewport.viewportToImageRectangle(viewer.viewport.getBounds(true));
    const middle = [seen.x + seen.width / 2, seen.y + seen.height / 2].map((at, axis) => view.origin[axis] + at * view.scale[axis]);
    const next = views[which];
    const [x, y] = toImage(next, middle);
    const isEnlarged = viewer.viewport.getZoom(true) > 1.001 * viewer.viewport.getHomeZoom();
    show(which);
    if (isEnlarged && x > 0 && y > 0 && x < next.width_px && y < next.height_px) moveTo(...middle, seen.width * view.mpp, seen.height * view.mpp, true);
  }

  views.forEach((view, row) => part("view").append(element("option", { value: String(row), textContent: view.name })));
  part("choose").hidden = views.length < 2;
  part("view").addEventListener("change", () => change(Number(part("view").value)));
  const boxes = kinds.map((kind, row) => {
    const box = element("input", { type: "checkbox", checked: kind.shown });
    box.addEventListener("change", () => {
      shownKinds[row] = box.checked;
      drawMarks();
    });
    const sample = element("canvas", { width: 26, height: 26, ariaHidden: "true" });
    drawMark(sample.getContext("2d"), { x: 13, y: 13 }, kind);
    part("kinds").append(element("label", { className: "check" }, box, sample, element("span", { textContent: kind.name })));
    return box;
  });

  function showKind(row) {
    if (!boxes[row].checked) boxes[row].click();
  }

  part("in").addEventListener("click", () => viewer.viewport.zoomBy(1.6));
  part("out").addEventListener("click", () => viewer.viewport.zoomBy(1 / 1.6));
  part("home").addEventListener("click", () => viewer.viewport.goHome());
  viewer.canvas.append(marks);
  viewer.addHandler("update-viewport", drawMarks);
  viewer.addHandler("canvas-click", (event) => {
    const view = views[number];
    const matrix = measure(view);
    const far = view.x.map((_, row) => {
      const at = placeOf(view, row, matrix);
      return shownKinds[view.kind[row]] ? Math.hypot(at.x - event.position.x, at.y - event.position.y) : Infinity;
    });
    const row = far.indexOf(Math.min(...far));
    if (!event.quick || !(far[row] <= REACH)) return;
    part("point").textContent = view.text[row];
    pick(number, row);
  });
  show(0);
  return { show, goTo, showKind, onPick: (run) => { pick = run; }, current: () => number };
}
