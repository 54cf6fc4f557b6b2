"use strict";
// The section that draws samples of the prior.

function samplingSection(page) {
  const {models} = page, said = status(), conditional = models.find(model => model.conditional);
  let seed = 1, count = 24, label = "each", kind = "means";
  const {parts, box} = comparison(models, model => {
    const tiles = make("div", {className: "tiles", "aria-label": `samples by ${model.name}`});
    return {tiles, elements: [tiles]};
  });
  const update = onceAFrame(() => {
    const found = models.map((model, i) => {
      const labels = Array.from({length: count}, (_, at) => !model.conditional ? 0 : label === "each" ? at % model.classes : label);
      const z = model.priorSamples(new Chance(seed).normals(count, model.latentDim), labels);
      const means = model.decode(z, labels), chance = new Chance(seed + 1000);
      const images = kind === "means" ? means : tensor(means.shape, means.data.map(value => chance.uniform() < value ? 1 : 0));
      showTiles(parts[i].tiles, images, labels.map(y => model.conditional ? model.labelName(y) : undefined));
      return percent(brightness(images));
    });
    said.textContent = `${count} samples, seed ${seed}${kind === "means" ? "" : ", black and white"}. Mean brightness: ${found.join(", ")}.`;
  });
  const labels = conditional ? select(conditional.noun, [["each", "each in turn"], ...Array.from({length: conditional.classes}, (_, y) => [y, conditional.labelName(y)])],
    y => { label = y === "each" ? y : Number(y); update(); }) : null;
  const kinds = models.every(model => model.binary) ? radios("Shown", [["means", "means of p(x | z)"], ["drawn", "draws of p(x | z), black and white"]], kind, value => { kind = value; update(); }) : null;
  const number = slider("Number", 4, 60, 1, count, value => { count = value; update(); });
  update();
  return section("sampling", "Sample the prior", "z is drawn from the prior, p(z) or p(z | y), and decoded. Two models get the same noise.",
    make("div", {className: "row"}, button("Sample again", () => { seed++; update(); }), labels?.row ?? null), number.row, kinds?.row ?? null, box, said);
}
