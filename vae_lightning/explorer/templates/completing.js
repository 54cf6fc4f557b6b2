"use strict";
// The section that completes what is rubbed out.

const CHAINS = 6;
const PARTS = {
  nothing: () => false,
  "lower half": row => row > 0.5,
  "upper half": row => row < 0.5,
  "left half": (row, column) => column < 0.5,
  "right half": (row, column) => column > 0.5,
  "upper left": (row, column) => row < 0.5 && column < 0.5,
  "upper right": (row, column) => row < 0.5 && column > 0.5,
  "lower left": (row, column) => row > 0.5 && column < 0.5,
  "lower right": (row, column) => row > 0.5 && column > 0.5,
};

function completingSection(page) {
  const {models} = page, said = status();
  let turns = 20, seed = 1, part = "lower half";
  const seen = imageCanvas("what is known of the image");
  const {parts, box} = comparison(models, model => {
    const tiles = make("div", {className: "tiles", "aria-label": `completions by ${model.name}`});
    return {tiles, elements: [tiles]};
  });
  const update = afterPause(() => {
    const {paper} = page, hidden = PARTS[part];
    const known = Array.from(paper.known, (value, i) => value && !hidden((Math.floor(i / paper.width) + 0.5) / paper.height, (i % paper.width + 0.5) / paper.width) ? 1 : 0);
    const unknown = known.filter(value => !value).length;
    paintImage(seen, masked(paper.image, known));
    if (!unknown) {
      parts.forEach(each => each.tiles.replaceChildren());
      said.textContent = "Nothing is hidden: choose a part, or rub some of the image out by hand above.";
      return;
    }
    const mask = tensor(paper.image.shape, Float64Array.from(paper.image.data, (_, i) => known[i % known.length]));
    const means = models.map((model, i) => {
      const y = page.label === "auto" ? model.likeliest(paper.seen) : page.label;
      const images = model.complete(paper.image, mask, y, turns, CHAINS, seed);
      showTiles(parts[i].tiles, images, []);
      return percent(brightness(images));
    });
    said.textContent = `${CHAINS} completions of ${unknown} pixels after ${turns} turns, seed ${seed}. Mean brightness: ${means.join(", ")}.`;
  }, 200);
  page.paperChanged = update;
  const parting = select("Hide", Object.keys(PARTS).map(name => [name, name]), name => { part = name; update(); });
  parting.box.value = part;
  const steps = slider("Turns", 1, 60, 1, turns, value => { turns = value; update(); });
  update();
  return section("completing", "Complete what is hidden",
    "The image drawn above, of which a part is hidden or rubbed out: each of the six is a completion from another start. The unknown pixels begin as noise; then, by turns, z is drawn from q(z | whole image) and the unknown pixels are " + `${turned(models)}, while ` +
    "the known ones stay (pseudo-Gibbs sampling, Rezende, Mohamed and Wierstra, 2014). What is shown is the mean of the last turn. It is exact only as far as q is the true posterior.",
    make("div", {className: "row"}, parting.row, button("Other completions", () => { seed++; update(); })), steps.row,
    make("div", {className: "tiles"}, make("figure", {}, seen, make("figcaption", {text: "known"}))), box, said);
}

// What becomes of the unknown pixels in a turn.
function turned(models) {
  const drawn = "drawn from p(x | z)", mean = "the mean of p(x | z), without noise, as they are no binary pixels";
  const [first, second] = models.map(model => model.binary ? drawn : mean);
  return second === undefined || second === first ? first : `${first} (${models[0].name}) or ${second} (${models[1].name})`;
}

// The image in three channels, with what is not known in a blue that no image of one channel has.
function masked(image, known) {
  const [, channels, height, width] = image.shape, area = height * width, unknown = [0.35, 0.6, 0.75];
  return tensor([1, 3, height, width], Float64Array.from({length: 3 * area}, (_, i) => known[i % area] ? image.data[channels === 3 ? i : i % area] : unknown[Math.floor(i / area)]));
}
