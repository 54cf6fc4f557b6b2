"use strict";
// A tensor is {shape, data}: data in row-major order, truth values as 0 and 1. No operation changes its arguments, so views share data.

const sizeOf = shape => shape.reduce((product, size) => product * size, 1);
const tensor = (shape, data) => ({shape, data});
const zeros = shape => tensor(shape, new Float64Array(sizeOf(shape)));
const scalar = value => tensor([], Float64Array.of(Number(value)));
const isTensor = value => value !== null && typeof value === "object" && "data" in value;
const asTensor = value => isTensor(value) ? value : scalar(value);
const place = (dim, rank) => dim < 0 ? dim + rank : dim;
const sameShape = (a, b) => a.length === b.length && a.every((size, i) => size === b[i]);

function stridesOf(shape) {
  const strides = new Array(shape.length);
  for (let i = shape.length - 1, step = 1; i >= 0; step *= shape[i--]) strides[i] = step;
  return strides;
}

// Calls visit(start) for the place of each row (of the last dimension) of `shape`, in data with such strides.
function eachRow(shape, strides, visit) {
  const outer = shape.length - 1;
  const index = new Array(Math.max(outer, 0)).fill(0);
  let offset = 0;
  for (let left = sizeOf(shape.slice(0, -1)); left > 0; left--) {
    visit(offset);
    for (let d = outer - 1; d >= 0; d--) {
      offset += strides[d];
      if (++index[d] < shape[d]) break;
      offset -= strides[d] * shape[d];
      index[d] = 0;
    }
  }
}

// The numbers at places start + sum of index times stride, copied in order.
function strided(data, shape, strides, start = 0) {
  const out = zeros(shape);
  if (!out.data.length) return out;
  if (!shape.length) { out.data[0] = data[start]; return out; }
  const width = shape[shape.length - 1], step = strides[shape.length - 1];
  let to = 0;
  eachRow(shape, strides, from => {
    for (let i = 0, at = start + from; i < width; i++, at += step) out.data[to++] = data[at];
  });
  return out;
}

function broadcastShape(...shapes) {
  const rank = Math.max(...shapes.map(shape => shape.length));
  return Array.from({length: rank}, (_, i) => {
    const sizes = shapes.map(shape => shape[i - rank + shape.length] ?? 1);
    return sizes.find(size => size !== 1) ?? 1;
  });
}

function expanded(x, shape) {
  if (sameShape(x.shape, shape)) return x;
  const own = stridesOf(x.shape), shift = shape.length - x.shape.length;
  const strides = shape.map((size, i) => i < shift || x.shape[i - shift] === 1 ? 0 : own[i - shift]);
  return strided(x.data, shape, strides);
}

function reshaped(x, sizes) {
  const known = sizes.reduce((product, size) => size < 0 ? product : product * size, 1);
  return tensor(sizes.map(size => size < 0 ? x.data.length / known : size), x.data);
}

function permuted(x, dims) {
  const strides = stridesOf(x.shape);
  const order = dims.map(dim => place(dim, dims.length));
  if (order.every((dim, i) => dim === i)) return x;
  return strided(x.data, order.map(dim => x.shape[dim]), order.map(dim => strides[dim]));
}

function sliced(x, dim, start, end, step = 1) {
  dim = place(dim, x.shape.length);
  const size = x.shape[dim], strides = stridesOf(x.shape);
  const within = (value, otherwise) => value === null ? otherwise : Math.min(size, Math.max(0, value < 0 ? value + size : value));
  const first = within(start, 0), last = within(end, size);
  if (first === 0 && last === size && step === 1) return x;
  const shape = x.shape.slice();
  shape[dim] = Math.max(0, Math.ceil((last - first) / step));
  const steps = strides.slice();
  steps[dim] *= step;
  return strided(x.data, shape, steps, first * strides[dim]);
}

function each(x, f) {
  const data = new Float64Array(x.data.length);
  for (let i = 0; i < data.length; i++) data[i] = f(x.data[i]);
  return tensor(x.shape, data);
}

function pairwise(a, b, f) {
  a = asTensor(a);
  b = asTensor(b);
  if (b.data.length === 1 && b.shape.length <= a.shape.length) { const second = b.data[0]; return each(a, value => f(value, second)); }
  if (a.data.length === 1 && a.shape.length <= b.shape.length) { const first = a.data[0]; return each(b, value => f(first, value)); }
  const shape = broadcastShape(a.shape, b.shape);
  const left = expanded(a, shape).data, right = expanded(b, shape).data;
  const data = new Float64Array(left.length);
  for (let i = 0; i < data.length; i++) data[i] = f(left[i], right[i]);
  return tensor(shape, data);
}

// Rows of the dimensions `dims`, one after the other; back(rows -> number) gives the result of one number a row.
function rowsOver(x, dims) {
  const rank = x.shape.length;
  const over = (dims === null || !dims.length ? x.shape.map((_, i) => i) : dims).map(dim => place(dim, rank));
  const kept = x.shape.map((_, i) => i).filter(i => !over.includes(i));
  const rows = permuted(x, [...kept, ...over]);
  return {data: rows.data, width: sizeOf(over.map(i => x.shape[i])), kept, over};
}

function reduced(x, dims, keepdim, row) {
  const {data, width, kept, over} = rowsOver(x, dims);
  const out = zeros(keepdim ? x.shape.map((size, i) => over.includes(i) ? 1 : size) : kept.map(i => x.shape[i]));
  for (let i = 0; i < out.data.length; i++) out.data[i] = row(data, i * width, (i + 1) * width);
  return out;
}

// A function of each row along one dimension, in place in a copy.
function alongRows(x, dim, change) {
  const rank = x.shape.length;
  dim = place(dim, rank);
  const order = [...Array(rank).keys()].filter(i => i !== dim).concat(rank ? dim : []);
  const moved = permuted(x, order);
  const width = rank ? x.shape[dim] : 1;
  const out = tensor(moved.shape, Float64Array.from(moved.data));
  for (let start = 0; start < out.data.length; start += width) change(out.data, start, start + width);
  const back = order.map((_, i) => order.indexOf(i));
  return permuted(out, back);
}

const sum = (data, start, end) => { let total = 0; for (let i = start; i < end; i++) total += data[i]; return total; };
const largest = (data, start, end) => { let most = -Infinity; for (let i = start; i < end; i++) if (!(data[i] <= most)) most = data[i]; return most; };

function softmaxed(x, dim, logarithm) {
  return alongRows(x, dim, (data, start, end) => {
    const most = largest(data, start, end);
    let total = 0;
    for (let i = start; i < end; i++) total += Math.exp(data[i] - most);
    for (let i = start; i < end; i++) data[i] = logarithm ? data[i] - most - Math.log(total) : Math.exp(data[i] - most) / total;
  });
}

function concatenated(parts, dim) {
  const some = parts.filter(part => part.shape.length > 1 || part.data.length);
  dim = place(dim, some[0].shape.length);
  const shape = some[0].shape.slice();
  shape[dim] = some.reduce((total, part) => total + part.shape[dim], 0);
  const out = zeros(shape);
  const inner = sizeOf(shape.slice(dim + 1)), outer = sizeOf(shape.slice(0, dim));
  let to = 0;
  for (let block = 0; block < outer; block++) {
    for (const part of some) {
      const length = part.shape[dim] * inner;
      out.data.set(part.data.subarray(block * length, (block + 1) * length), to);
      to += length;
    }
  }
  return out;
}
