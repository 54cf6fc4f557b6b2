"use strict";
// The section in which z is chosen and p(x | z) is seen.

const FIRST_SLIDERS = 8;

function latentsSection(page) {
  const {models, colors} = page, [first] = models;
  const shown = models.filter(model => model.latentDim === first.latentDim), conditional = shown.filter(model => model.conditional);
  const extent = Math.max(3, Math.ceil(first.means.data.reduce((most, value) => Math.max(most, Math.abs(value)), 0) + 0.5));
  const z = Float64Array.from(first.means.data.slice(0, first.latentDim));
  let label = first.conditional ? first.mapped[0] : 0, seed = 1;
  const said = status(), every = make("div", {className: "tiles"});
  const {parts, box} = comparison(shown, model => {
    const canvas = imageCanvas(`mean of p(x | z) by ${model.name}`, true);
    return {canvas, elements: [canvas]};
  });
  const sliders = first.order.map((d, rank) => slider(`z${d}`, -extent, extent, 0.01, z[d], value => { z[d] = value; update(); },
    rank < FIRST_SLIDERS ? `${fixed(first.activity[d])}` : ""));
  const pad = first.latentDim > 1 ? new Pad(first, colors, extent, ([across, up]) => {
    [z[pad.dims[0]], z[pad.dims[1]]] = [across, up];
    update();
  }) : null;

  const update = onceAFrame(() => {
    const point = tensor([1, z.length], Float64Array.from(z));
    const images = shown.map(model => model.decode(point, label));
    images.forEach((image, i) => paintImage(parts[i].canvas, image));
    first.order.forEach((d, rank) => sliders[rank].set(z[d]));
    pad?.show([z[pad.dims[0]], z[pad.dims[1]]]);
    if (conditional.length) showEvery(point);
    const leading = first.order.slice(0, 4).map(d => `z${d} = ${fixed(z[d])}`).join(", ");
    const more = first.latentDim > 4 ? `, and ${first.latentDim - 4} more` : "";
    const guess = first.classifies && !first.conditional ? classOf(first, images[0]) : "";
    const given = conditional.length ? ` Label: ${conditional[0].labelName(label)}.` : "";
    const mean = images.map((image, i) => (shown.length > 1 ? `${shown[i].name}: ` : "") + percent(brightness(image))).join(", ");
    said.textContent = `${leading}${more}.${given} Mean brightness of p(x | z): ${mean}.${guess}`;
  });
  const showEvery = point => {
    const [model] = conditional, labels = Array.from({length: model.classes}, (_, y) => y);
    showTiles(every, model.decode(repeated(point, model.classes), labels), labels.map(y => model.labelName(y)));
    every.children[label]?.querySelector("canvas").classList.add("chosen");
  };

  const set = values => { z.set(values); update(); };
  const images = select("z of test image", first.mapped.slice(0, 60).map((y, i) => [i, pictureName(first, y, i)]), chosen => {
    const i = Number(chosen);
    if (conditional.length && first.conditional) choose(first.mapped[i]);
    set(first.means.data.slice(i * z.length, (i + 1) * z.length));
  });
  const labels = conditional.length ? radios(conditional[0].noun, Array.from({length: conditional[0].classes}, (_, y) => [y, conditional[0].labelName(y)]), label,
    y => { label = y; update(); }) : null;
  const choose = y => { label = y; labels.boxes[y].checked = true; };
  const controls = make("div", {className: "row"},
    button("z = 0", () => set(new Float64Array(z.length))),
    button("z from the prior", () => set(first.priorSamples(new Chance(seed++).normals(1, z.length), label).data)), images.row);
  const axes = pad ? make("div", {className: "row"}, ...["Across", "Up"].map((name, i) => {
    const axis = select(name, first.order.map(d => [d, `z${d}`]), d => { pad.dims[i] = Number(d); update(); });
    axis.box.value = String(pad.dims[i]);
    return axis.row;
  })) : null;
  const rest = sliders.slice(FIRST_SLIDERS).map(each => each.row);
  update();
  return section("latents", "From z to an image", "Choose a place in latent space and see the mean of p(x | z), the image that the decoder makes of it.",
    make("div", {className: "columns"},
      make("div", {}, box, labels?.row ?? null, controls),
      pad ? make("div", {}, pad.canvas, axes, colorKey(first, colors),
        make("p", {className: "hint", text: `Dots: posterior means of ${first.mapped.length} test images. Drag the cross, or move it by the arrow keys.`})) : null,
      make("div", {}, make("p", {className: "hint", text: `Latents, the most active first; below each: ${first.measure}.`}),
        ...sliders.slice(0, FIRST_SLIDERS).map(each => each.row),
        rest.length ? make("details", {}, make("summary", {text: `The other ${rest.length} latents`}), ...rest) : null)),
    conditional.length ? make("h3", {text: `The same z with every ${conditional[0].noun}`}) : null, conditional.length ? every : null,
    shown.length < models.length ? make("p", {className: "hint", text: `${models[1].name} has ${models[1].latentDim} latents and not ${first.latentDim}, so these z are not its own.`}) : null,
    said);
}

const classOf = (model, image) => {
  const shares = model.predict(image), best = indexOfLargest(shares);
  return ` The classifier says ${model.labelName(best)} (${percent(shares[best])}).`;
};
const pictureName = (model, y, i) => model.labels.length ? `${i + 1} (${model.labelName(y)})` : String(i + 1);
