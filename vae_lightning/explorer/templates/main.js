"use strict";
// The page.

const SECTIONS = [latentsSection, drawingSection, completingSection, walkingSection, samplingSection];

function header(page) {
  const about = page.models.map(model => make("p", {className: "muted", text:
    `${page.models.length > 1 ? `${model.name}: ` : ""}${model.kind}, ${model.latentDim} latents${model.conditional ? `, given the label` : ""}. Weights: ${model.weights}. ` +
    `Images: ${model.dataset}, binarization ${model.binarization}.`}));
  return [make("h1", {text: `Explorer: ${page.models.map(model => model.title).join(" and ")}`}), ...about];
}

function aboutSection(page) {
  const precise = page.models.map(model => make("li", {text:
    `${page.models.length > 1 ? `${model.name}: ` : ""}large weights are kept as ${model.width}. On ${model.rounding.images} test images and samples of the prior that moved no pixel\u2019s mean by more than ` +
    `${model.rounding.mean.toExponential(1)}, and no ELBO by more than ${fixed(model.rounding.elbo, 3)} nats.`}));
  const facts = [
    "The page holds the model itself and computes it here, by JavaScript, in double precision. It asks for nothing from a network and keeps nothing.",
    "Images p(x | z) are means: of a pixel that is black or white, the probability of white.",
    "ELBO = log p(x | z) less KL(q(z | x) || p(z)), in nats: a lower bound of log p(x). \u201cTest images\u201d is the mean over " + `${page.models[0].typical.images} of them, one sample of z each.`,
  ];
  return make("section", {id: "about", "aria-label": "About this page"}, make("h2", {text: "About this page"}),
    make("ul", {}, ...facts.map(text => make("li", {text})), ...precise), make("p", {className: "muted", text: `Written by vae-explore, vae_lightning ${page.version}.`}));
}

function start() {
  const content = JSON.parse(document.getElementById("content").textContent);
  const models = content.models.map(plain => new Model(plain));
  models.forEach((model, i) => { model.name = models.length > 1 && models[0].title === models[1].title ? `${model.title} (${i + 1})` : model.title; });
  const page = {...content, models};
  const sections = SECTIONS.map(build => build(page));
  const links = [...sections].map(each => make("a", {href: `#${each.id}`, text: each.getAttribute("aria-label")}));
  document.getElementById("page").replaceChildren(...header(page), make("nav", {"aria-label": "Sections"}, ...links), ...sections, aboutSection(page));
  window.explorer = {page, models, tensor};
}

start();
