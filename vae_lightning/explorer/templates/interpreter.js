"use strict";
// Constants out of the page's bytes, and graphs out of lists of operations.

// float16 by its sixteen bits
const HALVES = Float32Array.from({length: 65536}, (_, bits) => {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return exponent === 31 ? (fraction ? NaN : sign * Infinity) : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
});
const READERS = {
  f2: (buffer, at, count) => Float64Array.from(new Uint16Array(buffer, at, count), bits => HALVES[bits]),
  f4: (buffer, at, count) => Float64Array.from(new Float32Array(buffer, at, count)),
  i4: (buffer, at, count) => Float64Array.from(new Int32Array(buffer, at, count)),
  u1: (buffer, at, count) => Float64Array.from(new Uint8Array(buffer, at, count)),
  b1: (buffer, at, count) => {
    const bytes = new Uint8Array(buffer, at, Math.ceil(count / 8));
    return Float64Array.from({length: count}, (_, i) => (bytes[i >> 3] >> (i & 7)) & 1);
  },
};

function decoded({bytes, tensors}) {
  const text = atob(bytes), block = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) block[i] = text.charCodeAt(i);
  return tensors.map(([kind, shape, at]) => tensor(shape, READERS[kind](block.buffer, at, sizeOf(shape))));
}

const SPECIAL = {nan: NaN, inf: Infinity, "-inf": -Infinity};

class Graph {
  constructor(plain, constants) {
    Object.assign(this, plain);
    this.constants = constants;
    // what depends on no input is computed once, the first time
    this.once = new Map();
    this.fixed = [];
    for (const [name, args] of this.operations) {
      if (!(name in OPERATIONS)) throw new Error(`the page does not know the operation ${name}`);
      this.fixed.push(this.references(args).every(at => at[0] === "@" || (at[0] === "#" && this.fixed[at.slice(1)])));
    }
  }

  references(value) {
    if (Array.isArray(value)) return value.flatMap(item => this.references(item));
    return typeof value === "string" && /^[#@=]/.test(value) ? [value] : [];
  }

  // inputs: tensors by name; the outputs by name
  call(inputs) {
    const values = [];
    const resolve = value => {
      if (Array.isArray(value)) return value.map(resolve);
      if (typeof value !== "string") return value;
      if (value[0] === "#") return values[value.slice(1)];
      if (value[0] === "@") return this.constants[value.slice(1)];
      if (value[0] === "=") return inputs[value.slice(1)];
      return value in SPECIAL ? SPECIAL[value] : value;
    };
    this.operations.forEach(([name, args], i) => {
      if (this.once.has(i)) values.push(this.once.get(i));
      else {
        // an argument that is null counts as given: defaults were filled in by Python
        values.push(OPERATIONS[name](...args.map(resolve)));
        if (this.fixed[i]) this.once.set(i, values[i]);
      }
    });
    return Object.fromEntries(this.outputs.map((name, i) => [name, resolve(this.results[i])]));
  }
}
