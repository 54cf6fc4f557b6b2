"use strict";
// What the page is built of. Texts are set as text, so that nothing in a name is markup.

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && name !== "list" && typeof value !== "string") element[name] = value;
    else element.setAttribute(name === "className" ? "class" : name, value);
  }
  element.append(...children.filter(child => child !== null));
  return element;
}

let numbered = 0;
const newId = () => `control-${++numbered}`;

const button = (text, onclick) => make("button", {type: "button", text, onclick});

function select(text, options, change) {
  const id = newId();
  const box = make("select", {id, onchange: () => change(box.value)}, ...options.map(([value, shown]) => make("option", {value: String(value), text: shown})));
  return {box, row: make("label", {for: id}, make("span", {text}), box)};
}

function radios(legend, options, chosen, change) {
  const name = newId();
  const boxes = options.map(([value]) => make("input", {type: "radio", name, value: String(value), checked: value === chosen, onchange: () => change(value)}));
  const row = make("div", {className: "row"}, ...options.map(([, shown], i) => make("label", {}, boxes[i], make("span", {text: shown}))));
  return {boxes, row: make("fieldset", {}, make("legend", {text: legend}), row)};
}

function slider(text, low, high, step, value, change, more = "") {
  const id = newId(), shown = make("output", {for: id});
  const box = make("input", {type: "range", id, min: String(low), max: String(high), step: String(step), value: String(value)});
  const digits = step < 1 ? 2 : 0;
  const show = () => { shown.textContent = fixed(Number(box.value), digits); };
  box.addEventListener("input", () => { show(); change(Number(box.value)); });
  show();
  const row = make("div", {className: "slider"}, make("label", {for: id, text}), box, shown, more ? make("span", {className: "active", text: more}) : null);
  return {box, row, set(next) { box.value = String(next); show(); }};
}

const status = () => make("p", {className: "status", role: "status"});

function section(id, title, explanation, ...children) {
  return make("section", {id, "aria-label": title}, make("h2", {text: title}), make("p", {text: explanation}), ...children);
}

// ---- images

function paintImage(canvas, image, row = 0) {
  const [, channels, height, width] = image.shape, area = height * width, start = row * channels * area;
  canvas.width = width;
  canvas.height = height;
  const pixels = new ImageData(width, height);
  for (let i = 0; i < area; i++) {
    for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = 255 * image.data[start + (channels === 3 ? c * area : 0) + i];
    pixels.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

const imageCanvas = (name, large = false) => make("canvas", {className: large ? "image large" : "image", role: "img", "aria-label": name});

// One small figure for each image of a tensor (B, C, H, W), in `box`.
function showTiles(box, images, captions) {
  box.replaceChildren(...Array.from({length: images.shape[0]}, (_, i) => {
    const canvas = imageCanvas(captions[i] ?? `image ${i + 1}`);
    paintImage(canvas, images, i);
    return make("figure", {}, canvas, captions[i] === undefined ? null : make("figcaption", {text: captions[i]}));
  }));
}

const brightness = image => average(Array.from(image.data));

// A column for each model, with its name above if there are two.
function comparison(models, build) {
  const parts = models.map(build);
  const columns = parts.map((part, i) => make("div", {}, models.length > 1 ? make("h3", {text: models[i].name}) : null, ...part.elements));
  return {parts, box: make("div", {className: "comparison"}, ...columns)};
}

function showBars(box, names, shares) {
  box.replaceChildren(...shares.flatMap((share, i) => {
    const bar = make("span");
    bar.style.width = `${100 * share}%`;
    return [make("span", {text: names[i]}), make("span", {className: "bar"}, bar), make("span", {className: "n", text: percent(share)})];
  }));
}

// Means and standard deviations of the first dimensions, between -4 and 4.
function showIntervals(box, dims, loc, scale) {
  box.replaceChildren(...dims.flatMap(d => {
    const spread = make("span", {className: "spread"}), at = value => Math.min(100, Math.max(0, 50 + value * 12.5));
    spread.style.left = `${at(loc[d] - scale[d])}%`;
    spread.style.right = `${100 - at(loc[d] + scale[d])}%`;
    const axis = make("span", {className: "axis"}, make("span", {className: "zero"}), spread);
    return [make("span", {text: `z${d}`}), axis, make("span", {className: "n", text: `${fixed(loc[d])} ± ${fixed(scale[d])}`})];
  }));
}

// ---- when things are computed

// At most once a frame, however often it is asked for.
function onceAFrame(work) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; work(); });
  };
}

// When nothing has been asked for during `pause` milliseconds.
function afterPause(work, pause) {
  let timer = 0;
  return () => { clearTimeout(timer); timer = setTimeout(work, pause); };
}
