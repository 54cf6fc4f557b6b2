"use strict";
// Products of matrices and convolutions. Zeros, which binary images and ReLUs are full of, are passed over.

function addProduct(out, a, b, rows, inner, columns, atOut = 0, atA = 0, atB = 0) {
  for (let row = 0; row < rows; row++) {
    const to = atOut + row * columns;
    for (let k = 0; k < inner; k++) {
      const factor = a[atA + row * inner + k];
      if (factor === 0) continue;
      const from = atB + k * columns;
      for (let column = 0; column < columns; column++) out[to + column] += factor * b[from + column];
    }
  }
}

function matrixProduct(a, b) {
  const out = zeros([a.shape[0], b.shape[1]]);
  addProduct(out.data, a.data, b.data, a.shape[0], a.shape[1], b.shape[1]);
  return out;
}

function batchedProduct(a, b) {
  const [batch, rows, inner] = a.shape, columns = b.shape[2];
  const out = zeros([batch, rows, columns]);
  for (let i = 0; i < batch; i++) addProduct(out.data, a.data, b.data, rows, inner, columns, i * rows * columns, i * rows * inner, i * inner * columns);
  return out;
}

// One image's windows as columns: (channels * kernel height * kernel width, places), in `columns`; or, with `back`, what is in the
// columns added to the image. `small` and `large` are sizes: the small side has a place for each stride over the large one.
function windows(image, at, channels, large, small, kernel, {stride, padding, dilation}, columns, back) {
  const [height, width] = large, [rows, across] = small, [kernelHeight, kernelWidth] = kernel;
  let column = 0;
  for (let channel = 0; channel < channels; channel++) for (let ky = 0; ky < kernelHeight; ky++) for (let kx = 0; kx < kernelWidth; kx++) {
    for (let row = 0; row < rows; row++, column += across) {
      const y = row * stride[0] - padding[0] + ky * dilation[0];
      if (y < 0 || y >= height) continue;
      const start = at + (channel * height + y) * width;
      for (let i = 0; i < across; i++) {
        const x = i * stride[1] - padding[1] + kx * dilation[1];
        if (x < 0 || x >= width) continue;
        if (back) image[start + x] += columns[column + i]; else columns[column + i] = image[start + x];
      }
    }
  }
}

function convolved(x, weight, bias, stride, padding, dilation, transposed, outputPadding, groups) {
  const pair = values => values.length === 1 ? [values[0], values[0]] : values;
  const [kernelHeight, kernelWidth] = weight.shape.slice(2), kernel = [kernelHeight, kernelWidth];
  const steps = {stride: pair(stride), padding: pair(padding), dilation: pair(dilation)}, extra = pair(outputPadding);
  const [batch, channels] = x.shape, size = x.shape.slice(2);
  const outChannels = transposed ? weight.shape[1] * groups : weight.shape[0];
  const outSize = size.map((length, d) => transposed
    ? (length - 1) * steps.stride[d] - 2 * steps.padding[d] + steps.dilation[d] * (kernel[d] - 1) + 1 + extra[d]
    : Math.floor((length + 2 * steps.padding[d] - steps.dilation[d] * (kernel[d] - 1) - 1) / steps.stride[d]) + 1);
  const out = zeros([batch, outChannels, ...outSize]);
  const area = sizeOf(size), outArea = sizeOf(outSize), taps = kernelHeight * kernelWidth;
  if (bias !== null) for (let i = 0; i < batch * outChannels; i++) out.data.fill(bias.data[i % outChannels], i * outArea, (i + 1) * outArea);
  const inGroup = channels / groups, outGroup = outChannels / groups;
  // of a transposed convolution, the columns are of its output
  const columns = new Float64Array((transposed ? outGroup * area : inGroup * outArea) * taps);
  const each = weight.data.length / groups;
  const turned = transposed ? permuted(tensor([groups, inGroup, outGroup * taps], weight.data), [0, 2, 1]).data : weight.data;
  for (let n = 0; n < batch; n++) for (let group = 0; group < groups; group++) {
    const from = (n * groups + group) * inGroup * area, to = (n * groups + group) * outGroup * outArea;
    columns.fill(0);
    if (transposed) {
      addProduct(columns, turned, x.data, outGroup * taps, inGroup, area, 0, group * each, from);
      windows(out.data, to, outGroup, outSize, size, kernel, steps, columns, true);
    } else {
      windows(x.data, from, inGroup, size, outSize, kernel, steps, columns, false);
      addProduct(out.data, turned, columns, outGroup, inGroup * taps, outArea, to, group * each, 0);
    }
  }
  return out;
}

// Windows over images, each one number: `row(numbers, places)` of those in the image, and of how many places the window has with padding.
function pooled(x, kernel, stride, padding, ceiling, row) {
  const pair = values => values.length === 1 ? [values[0], values[0]] : values;
  [kernel, padding] = [kernel, padding].map(pair);
  stride = stride.length ? pair(stride) : kernel;
  const size = x.shape.slice(-2);
  const reach = size.map((length, d) => {
    const steps = (length + 2 * padding[d] - kernel[d]) / stride[d];
    const places = (ceiling ? Math.ceil(steps) : Math.floor(steps)) + 1;
    // the last window begins within the image or the padding before it
    return ceiling && (places - 1) * stride[d] >= length + padding[d] ? places - 1 : places;
  });
  const out = zeros([...x.shape.slice(0, -2), ...reach]), [height, width] = size;
  for (let i = 0; i < out.data.length; i++) {
    const plane = Math.floor(i / (reach[0] * reach[1])) * height * width;
    const top = (Math.floor(i / reach[1]) % reach[0]) * stride[0] - padding[0], left = (i % reach[1]) * stride[1] - padding[1];
    const numbers = [];
    for (let y = Math.max(0, top); y < Math.min(height, top + kernel[0]); y++) {
      for (let at = Math.max(0, left); at < Math.min(width, left + kernel[1]); at++) numbers.push(x.data[plane + y * width + at]);
    }
    const tall = Math.min(top + kernel[0], height + padding[0]) - top, wide = Math.min(left + kernel[1], width + padding[1]) - left;
    out.data[i] = row(numbers, tall * wide);
  }
  return out;
}

function enlarged(x, size, factors) {
  const [height, width] = x.shape.slice(-2);
  const [tall, wide] = size ?? [Math.floor(height * factors[0]), Math.floor(width * factors[1])];
  const out = zeros([...x.shape.slice(0, -2), tall, wide]);
  for (let i = 0; i < out.data.length; i++) {
    const row = Math.floor(((Math.floor(i / wide) % tall) * height) / tall), column = Math.floor(((i % wide) * width) / wide);
    out.data[i] = x.data[(Math.floor(i / (tall * wide)) * height + row) * width + column];
  }
  return out;
}

function padded(x, pads, value) {
  const rank = x.shape.length;
  const before = dim => pads[2 * (rank - 1 - dim)] ?? 0, after = dim => pads[2 * (rank - 1 - dim) + 1] ?? 0;
  const shape = x.shape.map((size, dim) => size + before(dim) + after(dim));
  const out = tensor(shape, new Float64Array(sizeOf(shape)).fill(value));
  const strides = stridesOf(shape), own = stridesOf(x.shape);
  for (let i = 0; i < x.data.length; i++) {
    let to = 0, inside = true;
    for (let dim = 0; dim < rank; dim++) {
      const at = Math.floor(i / own[dim]) % x.shape[dim] + before(dim);
      inside = inside && at >= 0 && at < shape[dim];
      to += at * strides[dim];
    }
    if (inside) out.data[to] = x.data[i];
  }
  return out;
}
