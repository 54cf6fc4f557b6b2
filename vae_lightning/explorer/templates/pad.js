"use strict";
// A map of two latents: a dot for each of some test images, at its posterior mean, and a cross that is dragged or moved by keys.

class Pad {
  constructor(model, colors, extent, move) {
    Object.assign(this, {model, colors, extent, move, dims: [model.order[0], model.order[1]], z: [0, 0]});
    this.canvas = make("canvas", {className: "pad", tabindex: "0", role: "application", "aria-label":
      "Map of two latents. Drag, or press the arrow keys, to move z; with Shift in small steps."});
    const drag = event => { if (event.buttons || event.type === "pointerdown") this.moveTo(event); };
    this.canvas.addEventListener("pointerdown", event => { this.canvas.setPointerCapture(event.pointerId); drag(event); });
    this.canvas.addEventListener("pointermove", drag);
    this.canvas.addEventListener("keydown", event => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  moveTo(event) {
    const box = this.canvas.getBoundingClientRect();
    const at = (value, length) => Math.max(-1, Math.min(1, 2 * value / length - 1)) * this.extent;
    this.move([at(event.clientX - box.left, box.width), -at(event.clientY - box.top, box.height)]);
    event.preventDefault();
  }

  key(event) {
    const [right, up] = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]}[event.key] ?? [0, 0];
    if (!right && !up) return;
    const step = (event.shiftKey ? 0.02 : 0.1), within = value => Math.max(-this.extent, Math.min(this.extent, value));
    this.z = [within(this.z[0] + right * step), within(this.z[1] + up * step)]; // at once, as several keys may come in one frame
    this.move(this.z);
    event.preventDefault();
  }

  show(z) {
    this.z = z;
    this.draw();
  }

  draw() {
    const {canvas, model, extent} = this, side = canvas.clientWidth, dense = window.devicePixelRatio || 1;
    if (!side) return;
    canvas.width = canvas.height = Math.round(side * dense);
    const pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement), color = name => style.getPropertyValue(name);
    pen.scale(dense, dense);
    const at = value => (value / extent + 1) * side / 2, [across, up] = this.dims;
    pen.strokeStyle = color("--line");
    for (let tick = Math.ceil(-extent); tick <= extent; tick++) {
      pen.lineWidth = tick === 0 ? 2 : 0.5;
      pen.beginPath();
      pen.moveTo(at(tick), 0); pen.lineTo(at(tick), side); pen.moveTo(0, at(tick)); pen.lineTo(side, at(tick));
      pen.stroke();
    }
    pen.lineWidth = 0.8;
    pen.strokeStyle = color("--ground");
    if (matchMedia("(prefers-color-scheme: dark)").matches) pen.strokeStyle = "rgba(255, 255, 255, 0.55)";
    for (let i = 0; i < model.mapped.length; i++) {
      pen.fillStyle = model.labels.length ? this.colors[model.mapped[i] % this.colors.length] : color("--bar");
      pen.beginPath();
      pen.arc(at(model.means.data[i * model.latentDim + across]), side - at(model.means.data[i * model.latentDim + up]), 3.4, 0, 2 * Math.PI);
      pen.fill();
      pen.stroke();
    }
    this.cross(pen, at(this.z[0]), side - at(this.z[1]), color);
    pen.fillStyle = color("--muted");
    pen.font = "12px system-ui, sans-serif";
    pen.textAlign = "right";
    pen.fillText(`z${across} \u2192`, side - 5, side / 2 - 5);
    pen.textAlign = "left";
    pen.fillText(`\u2191 z${up}`, side / 2 + 5, 14);
  }

  cross(pen, x, y, color) {
    for (const [width, stroke] of [[5, color("--ground")], [2.2, color("--text")]]) {
      pen.lineWidth = width;
      pen.strokeStyle = stroke;
      pen.beginPath();
      pen.arc(x, y, 7, 0, 2 * Math.PI);
      pen.moveTo(x - 13, y); pen.lineTo(x + 13, y); pen.moveTo(x, y - 13); pen.lineTo(x, y + 13);
      pen.stroke();
    }
  }
}

const colorKey = (model, colors) => make("p", {}, ...model.labels.map((name, i) => {
  const dot = make("span");
  dot.style.background = colors[i % colors.length];
  return make("span", {className: "key"}, dot, name);
}));
