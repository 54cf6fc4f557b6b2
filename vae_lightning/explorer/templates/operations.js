"use strict";
// torch's core operations by name, with the arguments of their schemas in order. Python reads the names from here.

const map = f => x => each(asTensor(x), f);
const both = f => (a, b) => pairwise(a, b, f);
const holds = f => both((a, b) => f(a, b) ? 1 : 0);
const scaled = (f, sign) => (a, b, alpha = 1) => pairwise(a, b, (p, q) => p + sign * alpha * q);
const named = (x, dtype) => dtype === "int" ? each(x, Math.trunc) : dtype === "bool" ? each(x, v => v !== 0 ? 1 : 0) : x;
const unsqueezed = (x, dim) => {
  const shape = x.shape.slice();
  shape.splice(dim < 0 ? dim + shape.length + 1 : dim, 0, 1);
  return tensor(shape, x.data);
};
const squeezed = (x, dims) => tensor(x.shape.filter((size, i) => size !== 1 || !dims.some(dim => place(dim, x.shape.length) === i)), x.data);
const split = (x, sizes, dim) => {
  let start = 0;
  return sizes.map(size => sliced(x, dim, start, start += size));
};
const filled = (shape, value) => tensor(shape, new Float64Array(sizeOf(shape)).fill(value));
const arange = (start, end, step) => tensor([Math.max(0, Math.ceil((end - start) / step))],
  Float64Array.from({length: Math.max(0, Math.ceil((end - start) / step))}, (_, i) => start + i * step));
const chosenWhere = (condition, a, b) => {
  [condition, a, b] = [condition, a, b].map(asTensor);
  const shape = broadcastShape(condition.shape, a.shape, b.shape);
  const [c, yes, no] = [condition, a, b].map(x => expanded(x, shape).data);
  return tensor(shape, Float64Array.from(c, (value, i) => value ? yes[i] : no[i]));
};
const gathered = (x, dim, index) => {
  dim = place(dim, x.shape.length);
  const out = zeros(index.shape), strides = stridesOf(x.shape), own = stridesOf(index.shape);
  for (let i = 0; i < out.data.length; i++) {
    let from = index.data[i] * strides[dim];
    for (let d = 0; d < own.length; d++) if (d !== dim) from += Math.floor(i / own[d]) % index.shape[d] * strides[d];
    out.data[i] = x.data[from];
  }
  return out;
};
// rows of the one dimension that has an index
const indexed = (x, indices) => {
  const dims = indices.map((index, dim) => index === null ? -1 : dim).filter(dim => dim >= 0);
  if (dims.length !== 1) throw new Error("index: of one dimension alone is known");
  return taken(x, dims[0], indices[dims[0]]);
};
const taken = (x, dim, index) => {
  dim = place(dim, x.shape.length);
  const inner = sizeOf(x.shape.slice(dim + 1)), size = x.shape[dim], outer = sizeOf(x.shape.slice(0, dim));
  const out = zeros([...x.shape.slice(0, dim), ...index.shape, ...x.shape.slice(dim + 1)]);
  for (let block = 0, to = 0; block < outer; block++) for (const row of index.data) {
    const from = (block * size + (row < 0 ? row + size : row)) * inner;
    for (let i = 0; i < inner; i++) out.data[to++] = x.data[from + i];
  }
  return out;
};
const mean = (x, dims, keepdim) => reduced(x, dims, keepdim, (data, start, end) => sum(data, start, end) / (end - start));
const variance = (x, dims, correction, keepdim) => reduced(x, dims, keepdim, (data, start, end) => {
  const middle = sum(data, start, end) / (end - start);
  let total = 0;
  for (let i = start; i < end; i++) total += (data[i] - middle) ** 2;
  return total / (end - start - (correction ?? 1));
});
// (x - mean) / sqrt(variance + epsilon) over dimensions, then weight and bias in the shape `by`
const normalised = (x, dims, weight, bias, by, epsilon) => {
  const centred = pairwise(x, mean(x, dims, true), (a, b) => a - b);
  const scale = each(variance(x, dims, 0, true), v => Math.sqrt(v + epsilon));
  return shifted(pairwise(centred, scale, (a, b) => a / b), weight, bias, by);
};
const shifted = (x, weight, bias, by) => {
  if (weight !== null) x = pairwise(x, reshaped(weight, by), (a, b) => a * b);
  return bias === null ? x : pairwise(x, reshaped(bias, by), (a, b) => a + b);
};
const channelwise = x => x.shape.map((_, i) => i === 1 ? -1 : 1);

const OPERATIONS = {
  "py.mul": (a, b) => a * b,
  "py.add": (a, b) => a + b,
  "py.sub": (a, b) => a - b,
  "py.floordiv": (a, b) => Math.floor(a / b),
  "py.getitem": (list, i) => list[i],
  "sym_size.int": (x, dim) => x.shape[place(dim, x.shape.length)],
  "alias.default": x => x,
  "clone.default": x => x,
  "detach.default": x => x,
  "_to_copy.default": named,
  "view.default": reshaped,
  "_unsafe_view.default": reshaped,
  "reshape.default": reshaped,
  "expand.default": (x, sizes) => expanded(x, sizes.map((size, i) => size < 0 ? x.shape[i - sizes.length + x.shape.length] : size)),
  "permute.default": permuted,
  "unsqueeze.default": unsqueezed,
  "squeeze.dims": squeezed,
  "squeeze.dim": (x, dim) => squeezed(x, [dim]),
  "slice.Tensor": (x, dim, start, end, step) => sliced(x, dim ?? 0, start, end, step ?? 1),
  "select.int": (x, dim, index) => squeezed(sliced(x, dim, index, index === -1 ? null : index + 1), [dim]),
  "split_with_sizes.default": (x, sizes, dim) => split(x, sizes, dim ?? 0),
  "cat.default": (parts, dim) => concatenated(parts, dim ?? 0),
  "flip.default": (x, dims) => dims.reduce((image, dim) => alongRows(image, dim, (data, start, end) => data.subarray(start, end).reverse()), x),
  "repeat.default": (x, times) => times.reduce((out, count, d) => concatenated(Array(count).fill(out), d),
    tensor([...Array(times.length - x.shape.length).fill(1), ...x.shape], x.data)),
  "gather.default": gathered,
  "index.Tensor": indexed,
  "index_select.default": taken,
  "embedding.default": (weight, index) => taken(weight, 0, index),
  "constant_pad_nd.default": (x, pads, value) => padded(x, pads, value ?? 0),
  "upsample_nearest2d.vec": enlarged,
  "full.default": filled,
  "full_like.default": (x, value) => filled(x.shape, value),
  "scalar_tensor.default": scalar,
  "arange.start_step": (start, end, step) => arange(start, end, step ?? 1),
  "where.self": chosenWhere,
  "addmm.default": (bias, a, b, beta, alpha) => pairwise(
    (beta ?? 1) === 1 ? bias : each(bias, v => beta * v), matrixProduct(a, b), (p, q) => p + (alpha ?? 1) * q),
  "mm.default": matrixProduct,
  "bmm.default": batchedProduct,
  "convolution.default": convolved,
  "max_pool2d_with_indices.default": (x, kernel, stride, padding, dilation, ceiling) => {
    if (dilation.some(step => step !== 1)) throw new Error("max_pool2d: with a dilation is not known");
    return [pooled(x, kernel, stride, padding, ceiling, numbers => largest(numbers, 0, numbers.length)), null];
  },
  "avg_pool2d.default": (x, kernel, stride, padding, ceiling, withPadding, divisor) => pooled(x, kernel, stride, padding, ceiling,
    (numbers, places) => sum(numbers, 0, numbers.length) / (divisor ?? (withPadding ? places : numbers.length))),
  "native_layer_norm.default": (x, shape, weight, bias, epsilon) => [
    normalised(x, shape.map((_, i) => i - shape.length), weight, bias, shape, epsilon), null, null],
  "native_group_norm.default": (x, weight, bias, n, channels, area, groups, epsilon) => [shifted(reshaped(
    normalised(reshaped(x, [n, groups, -1]), [2], null, null, [], epsilon), x.shape), weight, bias, channelwise(x)), null, null],
  "_native_batch_norm_legit_no_training.default": (x, weight, bias, middle, spread, momentum, epsilon) => {
    const by = channelwise(x), scale = each(spread, v => Math.sqrt(v + epsilon));
    const centred = pairwise(x, reshaped(middle, by), (a, b) => a - b);
    return [shifted(pairwise(centred, reshaped(scale, by), (a, b) => a / b), weight, bias, by), null, null];
  },
  "sum.dim_IntList": (x, dims, keepdim) => reduced(x, dims, keepdim, sum),
  "sum.default": x => reduced(x, null, false, sum),
  "mean.dim": mean,
  "mean.default": x => mean(x, null, false),
  "var.correction": (x, dims, correction, keepdim) => variance(x, dims, correction, keepdim),
  "amax.default": (x, dims, keepdim) => reduced(x, dims, keepdim, largest),
  "amin.default": (x, dims, keepdim) => each(reduced(each(x, v => -v), dims, keepdim, largest), v => -v),
  "cumsum.default": (x, dim) => alongRows(x, dim, (data, start, end) => { for (let i = start + 1; i < end; i++) data[i] += data[i - 1]; }),
  "_softmax.default": (x, dim) => softmaxed(x, dim, false),
  "_log_softmax.default": (x, dim) => softmaxed(x, dim, true),
  "add.Tensor": scaled(null, 1),
  "add.Scalar": scaled(null, 1),
  "sub.Tensor": scaled(null, -1),
  "sub.Scalar": scaled(null, -1),
  "mul.Tensor": both((a, b) => a * b),
  "mul.Scalar": both((a, b) => a * b),
  "div.Tensor": both((a, b) => a / b),
  "div.Scalar": both((a, b) => a / b),
  "pow.Tensor_Scalar": both(Math.pow),
  "pow.Tensor_Tensor": both(Math.pow),
  "maximum.default": both(Math.max),
  "minimum.default": both(Math.min),
  "eq.Tensor": holds((a, b) => a === b),
  "eq.Scalar": holds((a, b) => a === b),
  "ne.Tensor": holds((a, b) => a !== b),
  "ne.Scalar": holds((a, b) => a !== b),
  "lt.Tensor": holds((a, b) => a < b),
  "lt.Scalar": holds((a, b) => a < b),
  "le.Tensor": holds((a, b) => a <= b),
  "le.Scalar": holds((a, b) => a <= b),
  "gt.Tensor": holds((a, b) => a > b),
  "gt.Scalar": holds((a, b) => a > b),
  "ge.Tensor": holds((a, b) => a >= b),
  "ge.Scalar": holds((a, b) => a >= b),
  "logical_and.default": holds((a, b) => a && b),
  "logical_or.default": holds((a, b) => a || b),
  "logical_not.default": map(v => v ? 0 : 1),
  "bitwise_and.Tensor": both((a, b) => a & b),
  "bitwise_or.Tensor": both((a, b) => a | b),
  "bitwise_not.default": map(v => v ? 0 : 1),
  "abs.default": map(Math.abs),
  "neg.default": map(v => -v),
  "sign.default": map(Math.sign),
  "sqrt.default": map(Math.sqrt),
  "rsqrt.default": map(v => 1 / Math.sqrt(v)),
  "reciprocal.default": map(v => 1 / v),
  "exp.default": map(Math.exp),
  "expm1.default": map(Math.expm1),
  "log.default": map(Math.log),
  "log1p.default": map(Math.log1p),
  "sin.default": map(Math.sin),
  "cos.default": map(Math.cos),
  "tanh.default": map(Math.tanh),
  "sigmoid.default": map(sigmoid),
  "floor.default": map(Math.floor),
  "round.default": map(rounded),
  "erf.default": map(erf),
  "special_ndtri.default": map(normalQuantile),
  "relu.default": map(v => v <= 0 ? 0 : v),
  "elu.default": (x, alpha, scale, inner) => each(x, v => (scale ?? 1) * (v > 0 ? v : (alpha ?? 1) * Math.expm1((inner ?? 1) * v))),
  "leaky_relu.default": (x, slope) => each(x, v => v > 0 ? v : (slope ?? 0.01) * v),
  "gelu.default": (x, kind) => each(x, v => gelu(v, kind)),
  "hardtanh.default": (x, low, high) => each(x, v => Math.min(high ?? 1, Math.max(low ?? -1, v))),
  "clamp.default": (x, low, high) => each(x, v => Math.min(high ?? Infinity, Math.max(low ?? -Infinity, v))),
};
