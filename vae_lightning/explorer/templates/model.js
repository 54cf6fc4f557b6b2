"use strict";
// A trained model: its functions by name, and what is made of them. Images are tensors (B, C, H, W), latents (B, D).

const FOR_ESTIMATE = 1500; // about so many milliseconds an estimate may take
const MOST_SAMPLES = 16;

class Model {
  constructor(plain) {
    Object.assign(this, plain);
    const constants = decoded(plain.constants);
    this.graphs = Object.fromEntries(Object.entries(plain.functions).map(([name, graph]) => [name, new Graph(graph, constants)]));
    const scale = this.binary ? 1 : 255;
    this.images = each(constants[plain.images], value => value / scale);
    this.means = constants[plain.means];
    this.conditional = this.classes > 0;
    this.hasDensity = this.graphs.encoder.outputs[0] === "loc";
  }

  call(name, inputs) { return this.graphs[name].call(inputs); }

  withLabels(inputs, count, y) {
    return this.conditional ? {...inputs, y: tensor([count], Float64Array.from({length: count}, (_, i) => Array.isArray(y) ? y[i] : y))} : inputs;
  }

  labelName(label) { return this.labels[label] ?? String(label); }

  decode(z, y) { return this.call("decoder", this.withLabels({z}, z.shape[0], y)).mean; }

  // loc and scale of the posterior of one image; by 64 samples where it is no Gaussian
  posterior(x, y) {
    if (this.hasDensity) {
      const {loc, scale} = this.call("encoder", this.withLabels({x}, 1, y));
      return {loc: Array.from(loc.data), scale: Array.from(scale.data)};
    }
    const z = this.latents(repeated(x, 64), y, new Chance(1));
    const column = d => Array.from({length: 64}, (_, i) => z.data[i * this.latentDim + d]);
    const columns = Array.from({length: this.latentDim}, (_, d) => column(d));
    return {loc: columns.map(average), scale: columns.map(values => standardError(values) * Math.sqrt(64))};
  }

  // a sample of the posterior of each image
  latents(x, y, chance) {
    const count = x.shape[0], noise = chance.normals(count, this.latentDim);
    if (!this.hasDensity) return this.call("encoder", this.withLabels({x, noise}, count, y)).z;
    const {loc, scale} = this.call("encoder", this.withLabels({x}, count, y));
    return pairwise(loc, pairwise(scale, noise, (s, e) => s * e), (m, e) => m + e);
  }

  priorSamples(noise, y) { return this.call("prior", this.withLabels({noise}, noise.shape[0], y)).z; }

  // K, as many samples as take a moment on this device
  get samples() {
    if (this.counted === undefined) {
      const x = rowOf(this.images, 0);
      const taken = [1, 2, 2].map(count => {
        const start = performance.now();
        this.elbo(x, 0, count);
        return performance.now() - start;
      });
      // the first times are longer, as the browser compiles what runs often
      const each = Math.min(...taken.slice(1)) / 2 + 0.01;
      this.counted = Math.max(2, Math.min(MOST_SAMPLES, Math.floor(FOR_ESTIMATE / each / Math.max(1, this.classes))));
    }
    return this.counted;
  }

  // The terms of the ELBO of one image, nats, as means over K samples of z whose noise is always the same.
  elbo(x, y, count = this.samples) {
    const noise = new Chance(7).normals(count, this.latentDim);
    const {log_likelihood, kl} = this.call("terms", this.withLabels({x: repeated(x, count), noise}, count, y));
    const differences = Array.from(log_likelihood.data, (value, i) => value - kl.data[i]);
    return {logLikelihood: average(Array.from(log_likelihood.data)), kl: average(Array.from(kl.data)), elbo: average(differences), error: standardError(differences), samples: count};
  }

  // Bayes' rule over the labels, with the ELBO of log p(x | y) in the place of log p(x | y)
  bayes(x) {
    const elbos = Array.from({length: this.classes}, (_, y) => this.elbo(x, y).elbo);
    return Array.from(softmaxed(tensor([1, elbos.length], Float64Array.from(elbos)), 1, false).data);
  }

  get classifies() { return "classifier" in this.graphs; }

  predict(x) { return Array.from(this.call("classifier", {x}).probabilities.data); }

  // The label of an image, where none is chosen: what the classifier says, or Bayes' rule; 0 of a model without labels.
  likeliest(x) { return !this.conditional ? 0 : indexOfLargest(this.classifies ? this.predict(x) : this.bayes(x)); }

  // Pixels that are not known, by turns: z of the posterior of the whole image, then these pixels of p(x | z).
  // known: 1 where a pixel is, of the shape of x. Gives the means of the last turn beside the known pixels, (chains, C, H, W).
  complete(x, known, y, turns, chains, seed) {
    const chance = new Chance(seed);
    const start = () => this.binary ? (chance.uniform() < 0.5 ? 1 : 0) : chance.uniform();
    let images = repeated(x, chains);
    const seen = i => known.data[i % known.data.length];
    images = tensor(images.shape, images.data.map((value, i) => seen(i) ? value : start()));
    let means = images;
    for (let turn = 0; turn < turns; turn++) {
      means = this.decode(this.latents(images, y, chance), y);
      const drawn = value => this.binary ? (chance.uniform() < value ? 1 : 0) : value;
      images = tensor(images.shape, images.data.map((value, i) => seen(i) ? value : drawn(means.data[i])));
    }
    return tensor(images.shape, means.data.map((value, i) => seen(i) ? x.data[i % x.data.length] : value));
  }
}
