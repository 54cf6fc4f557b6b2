"use strict";
// Random numbers that are the same for the same seed, and numbers in words.

class Chance {
  constructor(seed) { this.state = seed >>> 0; }

  // on (0, 1): mulberry32
  uniform() {
    let t = (this.state = (this.state + 0x6D2B79F5) >>> 0);
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 4294967296;
  }

  normal() { return Math.sqrt(-2 * Math.log(this.uniform())) * Math.cos(2 * Math.PI * this.uniform()); }

  normals(...shape) { return tensor(shape, Float64Array.from({length: sizeOf(shape)}, () => this.normal())); }
}

const fixed = (value, digits = 2) => Number.isFinite(value) ? value.toFixed(digits).replace(/^-(0(\.0*)?)$/, "$1").replace("-", "\u2212") : "not a number";
const percent = share => `${fixed(100 * share, share > 0.0995 || share === 0 ? 0 : 1)} %`;
const average = values => values.reduce((total, value) => total + value, 0) / values.length;
// of a mean over values
function standardError(values) {
  if (values.length < 2) return NaN;
  const middle = average(values);
  return Math.sqrt(average(values.map(value => (value - middle) ** 2)) / (values.length - 1));
}
const indexOfLargest = values => values.reduce((best, value, i) => value > values[best] ? i : best, 0);

// Rows of a tensor (B, ...) as tensors (1, ...), and back.
const rowOf = (x, i) => tensor([1, ...x.shape.slice(1)], x.data.slice(i * x.data.length / x.shape[0], (i + 1) * x.data.length / x.shape[0]));
const repeated = (x, times) => concatenated(Array(times).fill(x), 0);
