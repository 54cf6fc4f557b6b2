"use strict";
// The section that completes what is rubbed out.

const CHAINS = 6;

function completingSection(page) {
  const {models} = page, said = status();
  let turns = 20, seed = 1;
  const {parts, box} = comparison(models, model => {
    const tiles = make("div", {className: "tiles", "aria-label": `completions by ${model.name}`});
    return {tiles, elements: [tiles]};
  });
  const update = afterPause(() => {
    const {paper} = page;
    if (paper.whole) {
      parts.forEach(part => part.tiles.replaceChildren());
      said.textContent = "Nothing is rubbed out: choose a part under \u201cRub out\u201d above, or rub by hand.";
      return;
    }
    const unknown = paper.known.filter(value => !value).length;
    const means = models.map((model, i) => {
      const y = page.label === "auto" ? model.likeliest(paper.seen) : page.label;
      const images = model.complete(paper.image, paper.mask, y, turns, CHAINS, seed);
      showTiles(parts[i].tiles, images, []);
      return percent(brightness(images));
    });
    said.textContent = `${CHAINS} completions of ${unknown} pixels after ${turns} turns, seed ${seed}. Mean brightness: ${means.join(", ")}.`;
  }, 120);
  page.paperChanged = update;
  const steps = slider("Turns", 1, 60, 1, turns, value => { turns = value; update(); });
  update();
  return section("completing", "Complete what is rubbed out",
    "Each image is a completion from another start. The unknown pixels begin as noise; then, by turns, z is drawn from q(z | whole image) and the unknown pixels from p(x | z), while " +
    "the known ones stay (pseudo-Gibbs sampling, Rezende, Mohamed and Wierstra, 2014). What is shown is the mean of the last turn. It is exact only as far as q is the true posterior.",
    steps.row, make("div", {className: "row"}, button("Other completions", () => { seed++; update(); })), box, said);
}
