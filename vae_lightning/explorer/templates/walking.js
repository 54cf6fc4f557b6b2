"use strict";
// The section that goes from one test image to another.

function walkingSection(page) {
  const {models} = page, [first] = models, said = status();
  const other = Math.max(0, first.pictured.findIndex(y => y !== first.pictured[0]));
  let ends = [0, other || Math.min(1, first.pictured.length - 1)], steps = 9, seed = 1;
  const {parts, box} = comparison(models, model => {
    const tiles = make("div", {className: "tiles", "aria-label": `images on the way by ${model.name}`});
    return {tiles, elements: [tiles]};
  });
  const update = onceAFrame(() => {
    const distances = models.map((model, i) => {
      const [start, end] = ends.map(at => {
        const image = rowOf(first.images, at);
        return {image, y: first.labels.length ? first.pictured[at] : 0, loc: model.posterior(image, model.conditional ? first.pictured[at] : 0).loc};
      });
      const points = Array.from({length: steps}, (_, step) => start.loc.map((value, d) => value + (end.loc[d] - value) * step / (steps - 1)));
      const labels = points.map((_, step) => step < steps / 2 ? start.y : end.y);
      const images = model.decode(tensor([steps, model.latentDim], Float64Array.from(points.flat())), labels);
      showTiles(parts[i].tiles, concatenated([start.image, images, end.image], 0), ["from", ...points.map(() => undefined), "to"]);
      return fixed(Math.hypot(...start.loc.map((value, d) => end.loc[d] - value)));
    });
    const names = ends.map(at => pictureName(first, first.pictured[at], at));
    said.textContent = `From test image ${names[0]} to ${names[1]} in ${steps} steps; distance of the posterior means: ${distances.join(", ")}.`;
  });
  const choices = ["From", "To"].map((name, i) => select(name, first.pictured.map((y, at) => [at, pictureName(first, y, at)]), at => { ends[i] = Number(at); update(); }));
  const show = () => { choices.forEach((choice, i) => { choice.box.value = String(ends[i]); }); update(); };
  const pair = () => {
    const chance = new Chance(seed++), count = first.pictured.length;
    const start = Math.floor(chance.uniform() * count);
    ends = [start, (start + 1 + Math.floor(chance.uniform() * (count - 1))) % count];
    show();
  };
  const length = slider("Steps", 3, 15, 1, steps, value => { steps = value; update(); });
  show();
  return section("walking", "Go from one image to another",
    "The means of p(x | z) at equal steps on the straight line between the posterior means of two test images; the images at both ends are the test images themselves." +
    (models.some(model => model.conditional) ? " The first half is given the first image\u2019s label, the second half the other\u2019s." : ""),
    make("div", {className: "row"}, ...choices.map(choice => choice.row), button("Another pair", pair)), length.row, box, said);
}
