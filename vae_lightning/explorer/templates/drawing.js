"use strict";
// The section in which an image is drawn and the model says what it makes of it.

function drawingSection(page) {
  const {models} = page, [first] = models, conditional = models.find(model => model.conditional);
  const said = status();
  let label = "auto";
  const {parts, box} = comparison(models, answer);
  const quickly = onceAFrame(() => models.forEach((model, i) => reconstructed(model, page.paper.seen, label, parts[i])));
  const afterwards = afterPause(() => {
    const image = page.paper.seen;
    const found = models.map((model, i) => judged(model, image, label, parts[i]));
    said.textContent = found.map((each, i) => sentence(models[i], each, models.length > 1)).join(" ") +
      (page.paper.whole ? "" : " What is rubbed out counts as black here; it is completed below.");
  }, 150);
  const update = () => { quickly(); afterwards(); };
  const paper = page.paper = new Paper(first.shape, () => { update(); page.paperChanged?.(); });
  const tools = radios("Tool", [["draw", "Draw"], ["erase", "Erase to black"], ["rub", "Rub out (unknown)"]], "draw", tool => { paper.tool = tool; });
  const brush = slider("Brush", 1, 6, 1, paper.brush, size => { paper.brush = size; });
  const images = select("Test image", first.pictured.map((y, i) => [i, pictureName(first, y, i)]), i => paper.put(rowOf(first.images, Number(i))));
  const labels = conditional ? select("Label given to the model", [["auto", "the likeliest"], ...Array.from({length: conditional.classes}, (_, y) => [y, conditional.labelName(y)])],
    y => { label = y === "auto" ? y : Number(y); page.label = label; update(); page.paperChanged?.(); }) : null;
  page.label = label;
  const color = first.shape[0] === 3 ? make("input", {type: "color", value: "#ffffff", id: newId(), oninput: event => {
    paper.color = [1, 3, 5].map(at => parseInt(event.target.value.slice(at, at + 2), 16) / 255);
  }}) : null;
  paper.put(rowOf(first.images, 0));
  return section("drawing", "Draw an image", "Draw with the mouse, a finger, or the keyboard: arrow keys move the pencil, space draws, Shift and an arrow key draw a line.",
    make("div", {className: "columns"},
      make("div", {}, paper.canvas, tools.row, brush.row,
        color ? make("div", {className: "row"}, make("label", {for: color.id, text: "Colour"}), color) : null,
        make("div", {className: "row"}, button("Clear", () => paper.clear()), button("Centre", () => paper.centre()), images.row, labels?.row ?? null)),
      box), said);
}

// The elements that show what one model says of an image.
function answer(model) {
  const part = {reconstruction: imageCanvas(`reconstruction by ${model.name}`), numbers: make("table"), intervals: make("div", {className: "intervals"}),
    classifier: make("div", {className: "bars"}), bayes: make("div", {className: "bars"})};
  part.reconstruction.style.setProperty("--wide", "112px");
  const figure = make("figure", {}, part.reconstruction, make("figcaption", {text: "reconstruction"}));
  figure.style.width = "112px";
  part.elements = [make("div", {className: "row"}, figure, part.numbers),
    ...(model.classifies ? [make("p", {className: "hint", text: "What the classifier says"}), part.classifier] : []),
    ...(model.conditional ? [make("p", {className: "hint", text: "Bayes' rule over the labels, an approximation: with the ELBO in the place of log p(x | y)"}), part.bayes] : []),
    make("p", {className: "hint", text: "Posterior q(z | x), mean ± standard deviation, from −4 to 4; the most active latents"}), part.intervals];
  return part;
}

// Shows the reconstruction and the posterior of an image by `model`; with the label that was the likeliest last, if none is chosen.
function reconstructed(model, image, label, part) {
  const y = label === "auto" ? part.likeliest ?? 0 : label;
  const posterior = model.posterior(image, y);
  const mean = model.decode(tensor([1, model.latentDim], Float64Array.from(posterior.loc)), y);
  paintImage(part.reconstruction, mean);
  showIntervals(part.intervals, model.order.slice(0, FIRST_SLIDERS), posterior.loc, posterior.scale);
}

// Computes what `model` says of an image and shows it.
function judged(model, image, label, part) {
  const classifier = model.classifies ? model.predict(image) : null, bayes = model.conditional ? model.bayes(image) : null;
  const y = !model.conditional ? 0 : label === "auto" ? indexOfLargest(classifier ?? bayes) : label;
  part.likeliest = y;
  const terms = model.elbo(image, y);
  reconstructed(model, image, y, part);
  const usual = model.typical;
  part.numbers.replaceChildren(
    make("tr", {}, make("th", {text: "nats"}), make("th", {className: "n", text: "this image"}), make("th", {className: "n", text: "test images"})),
    ...[["log p(x | z)", terms.logLikelihood, usual.log_likelihood], ["KL", terms.kl, usual.kl], ["ELBO", terms.elbo, usual.log_likelihood - usual.kl]].map(
      ([name, here, there]) => make("tr", {}, make("td", {text: name}), make("td", {className: "n", text: fixed(here, 1)}), make("td", {className: "n", text: fixed(there, 1)}))));
  const names = Array.from({length: Math.max(classifier?.length ?? 0, model.classes)}, (_, i) => model.labelName(i));
  if (classifier) showBars(part.classifier, names, classifier);
  if (bayes) showBars(part.bayes, names, bayes);
  return {...terms, y, classifier, bayes};
}

function sentence(model, found, withName) {
  const given = model.conditional ? `, given ${model.noun} ${model.labelName(found.y)}` : "";
  const says = [["The classifier", found.classifier], ["Bayes\u2019 rule", found.bayes]].filter(([, shares]) => shares).map(([who, shares]) => {
    const best = indexOfLargest(shares);
    return ` ${who} says ${model.labelName(best)} (${percent(shares[best])}).`;
  }).join("");
  return `${withName ? `${model.name}: ` : ""}ELBO ${fixed(found.elbo, 1)} ± ${fixed(found.error, 1)} nats${given}: log p(x | z) ${fixed(found.logLikelihood, 1)} less KL ${fixed(found.kl, 1)}; ` +
    `means over ${found.samples} samples of z.${says}`;
}
