"use strict";
// A sheet to draw an image on, with mouse, finger or keys, and to rub out what is then unknown.

class Paper {
  constructor(shape, changed) {
    [this.channels, this.height, this.width] = shape;
    this.area = this.height * this.width;
    this.cell = Math.max(4, Math.floor(336 / Math.max(this.height, this.width)));
    this.image = zeros([1, ...shape]);
    this.known = new Uint8Array(this.area).fill(1);
    this.tool = "draw";
    this.brush = 2;
    this.color = [1, 1, 1];
    this.at = [Math.floor(this.height / 2), Math.floor(this.width / 2)];
    this.changed = changed;
    this.canvas = make("canvas", {className: "paper", tabindex: "0", role: "application", width: this.width * this.cell, height: this.height * this.cell,
      "aria-label": "Sheet to draw on. Arrow keys move the pencil, space uses it; with Shift an arrow key moves and draws."});
    this.canvas.addEventListener("pointerdown", event => { this.canvas.setPointerCapture(event.pointerId); this.last = null; this.stroke(event); });
    this.canvas.addEventListener("pointermove", event => { if (event.buttons) this.stroke(event); });
    this.canvas.addEventListener("keydown", event => this.key(event));
    for (const name of ["focus", "blur"]) this.canvas.addEventListener(name, () => this.draw());
    this.draw();
  }

  // the image with 0 where it is not known
  get seen() { return tensor(this.image.shape, this.image.data.map((value, i) => this.known[i % this.area] ? value : 0)); }

  get whole() { return this.known.every(Boolean); }

  stroke(event) {
    const box = this.canvas.getBoundingClientRect();
    const to = [(event.clientY - box.top) / box.height * this.height, (event.clientX - box.left) / box.width * this.width];
    const from = this.last ?? to, steps = Math.max(1, Math.ceil(2 * Math.hypot(to[0] - from[0], to[1] - from[1])));
    for (let i = 1; i <= steps; i++) this.dab(from[0] + (to[0] - from[0]) * i / steps, from[1] + (to[1] - from[1]) * i / steps);
    this.last = to;
    this.at = to.map(Math.floor);
    event.preventDefault();
    this.canvas.focus();
    this.after();
  }

  key(event) {
    const [down, right] = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]}[event.key] ?? [0, 0];
    const draws = event.key === " " || ((down || right) && event.shiftKey);
    if (!down && !right && !draws) return;
    this.at = [Math.max(0, Math.min(this.height - 1, this.at[0] + down)), Math.max(0, Math.min(this.width - 1, this.at[1] + right))];
    event.preventDefault();
    if (!draws) { this.draw(); return; }
    this.dab(this.at[0] + 0.5, this.at[1] + 0.5);
    this.after();
  }

  // Uses the tool on the pixels whose centres are within the brush.
  dab(y, x) {
    const reach = this.brush / 2 + 0.01;
    for (let row = Math.floor(y - reach); row <= y + reach; row++) for (let column = Math.floor(x - reach); column <= x + reach; column++) {
      const inside = row >= 0 && row < this.height && column >= 0 && column < this.width;
      if (inside && Math.abs(row + 0.5 - y) <= reach && Math.abs(column + 0.5 - x) <= reach) this.touch(row * this.width + column);
    }
  }

  touch(pixel) {
    this.known[pixel] = this.tool === "rub" ? 0 : 1;
    if (this.tool === "rub") return;
    for (let c = 0; c < this.channels; c++) this.image.data[c * this.area + pixel] = this.tool === "draw" ? this.color[c] : 0;
  }

  // ---- whole sheets

  clear() { this.put(zeros(this.image.shape)); }

  put(image) {
    this.image = tensor(image.shape, Float64Array.from(image.data));
    this.known.fill(1);
    this.after();
  }

  // Moves the image so that its centre of mass is in the middle, where that of MNIST's digits is.
  centre() {
    let mass = 0, down = 0, right = 0;
    this.image.data.forEach((value, i) => {
      mass += value;
      down += value * (Math.floor(i % this.area / this.width) + 0.5);
      right += value * (i % this.width + 0.5);
    });
    if (!mass) return;
    const shift = [Math.round(this.height / 2 - down / mass), Math.round(this.width / 2 - right / mass)];
    const moved = zeros(this.image.shape);
    this.image.data.forEach((value, i) => {
      const row = Math.floor(i % this.area / this.width) + shift[0], column = i % this.width + shift[1];
      if (row >= 0 && row < this.height && column >= 0 && column < this.width) moved.data[Math.floor(i / this.area) * this.area + row * this.width + column] = value;
    });
    this.put(moved);
  }

  after() {
    this.draw();
    this.changed();
  }

  draw() {
    const pen = this.canvas.getContext("2d"), {cell, width, area} = this;
    const level = (c, i) => Math.round(255 * this.image.data[(this.channels === 3 ? c * area : 0) + i]);
    const unknown = getComputedStyle(document.documentElement).getPropertyValue("--unknown");
    for (let i = 0; i < area; i++) {
      const x = (i % width) * cell, y = Math.floor(i / width) * cell;
      pen.fillStyle = this.known[i] ? `rgb(${level(0, i)}, ${level(1, i)}, ${level(2, i)})` : unknown;
      pen.fillRect(x, y, cell, cell);
    }
    if (document.activeElement !== this.canvas) return;
    pen.lineWidth = 2;
    pen.strokeStyle = "#e0533d";
    pen.strokeRect(this.at[1] * cell + 1, this.at[0] * cell + 1, cell - 2, cell - 2);
  }
}
