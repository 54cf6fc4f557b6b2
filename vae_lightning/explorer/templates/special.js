"use strict";
// Functions that JavaScript's Math does not have, in double precision.

function erf(x) {
  const away = Math.abs(x);
  if (away > 3) return Math.sign(x) * (1 - erfcFar(away));
  // sum of (-1)^n x^(2n+1) / (n! (2n+1))
  let term = x, total = x;
  for (let n = 1; n < 80; n++) {
    term *= -x * x / n;
    total += term / (2 * n + 1);
  }
  return total * 2 / Math.sqrt(Math.PI);
}

// 1 - erf(x) for x above 3, as a continued fraction
function erfcFar(x) {
  let fraction = x;
  for (let n = 60; n > 0; n--) fraction = x + n / 2 / fraction;
  return Math.exp(-x * x) / Math.sqrt(Math.PI) / fraction;
}

const normalShare = z => z < -3 * Math.SQRT2 ? erfcFar(-z / Math.SQRT2) / 2 : (1 + erf(z / Math.SQRT2)) / 2;

// The quantile of the standard normal distribution: by bisection, then Newton's steps.
function normalQuantile(share) {
  if (!(share > 0)) return share === 0 ? -Infinity : NaN;
  if (!(share < 1)) return share === 1 ? Infinity : NaN;
  if (share > 0.5) return -normalQuantile(1 - share);
  let low = -39, high = 0;
  for (let i = 0; i < 12; i++) {
    const middle = (low + high) / 2;
    if (normalShare(middle) < share) low = middle; else high = middle;
  }
  let z = (low + high) / 2;
  for (let i = 0; i < 12; i++) {
    const density = Math.exp(-z * z / 2) / Math.sqrt(2 * Math.PI);
    if (!(density > 0)) break;
    z = Math.min(high, Math.max(low, z - (normalShare(z) - share) / density));
  }
  return z;
}

const sigmoid = x => x < 0 ? Math.exp(x) / (1 + Math.exp(x)) : 1 / (1 + Math.exp(-x));
// torch rounds halves to the even neighbour
const rounded = x => { const near = Math.round(x); return Math.abs(x % 1) === 0.5 && near % 2 !== 0 ? near - 1 : near; };
const exact = x => x * (1 + erf(x / Math.SQRT2)) / 2;
const gelu = (x, kind) => kind === "tanh" ? x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))) / 2 : exact(x);
