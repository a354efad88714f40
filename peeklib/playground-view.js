// @ts-check
// What a Playground shows in its page, and what hands do to it: pictures, drawing, mixing, and the
// factorization while it is found. All elements are looked up below the figure of this script, so
// several playgrounds on a page do not meet. Types and functions are those of `playground.js`.

// Pictures

const VIRIDIS = [
  [68, 1, 84],
  [72, 40, 120],
  [62, 74, 137],
  [49, 104, 142],
  [38, 130, 142],
  [31, 158, 137],
  [53, 183, 121],
  [110, 206, 88],
  [181, 222, 43],
  [253, 231, 37],
];

/** The colours of 256 values, as red, green, blue. */
const COLOURS = Uint8ClampedArray.from({ length: 768 }, (_, k) => {
  const at = (Math.floor(k / 3) / 255) * 9;
  const low = Math.min(8, Math.floor(at));
  const [a, b] = [VIRIDIS[low], VIRIDIS[low + 1]];
  return a[k % 3] + (at - low) * (b[k % 3] - a[k % 3]);
});

/** Planes side by side, in as many columns as rows; grey or RGB, or in colours of a map.
 * @param {HTMLCanvasElement} canvas @param {Float32Array[]} planes @param {number[]} size height, width
 * @param {{most?: number, map?: boolean, columns?: number}} options white; without it, each plane's own largest value */
const paint = (canvas, planes, [high, wide], { most, map = false, columns } = {}) => {
  const across = columns ?? Math.ceil(Math.sqrt(planes.length));
  const down = Math.ceil(planes.length / across);
  const gap = planes.length > 1 ? 1 : 0;
  const W = across * (wide + gap) - gap;
  const H = down * (high + gap) - gap;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  if (canvas.width !== W) canvas.width = W;
  if (canvas.height !== H) canvas.height = H;
  const sheet = context.createImageData(W, H);
  planes.forEach((plane, k) => {
    const white = (most ?? largest(plane)) || 1;
    const size = high * wide;
    const rgb = plane.length === 3 * size;
    for (let pixel = 0; pixel < size; pixel++) {
      const y = Math.floor(k / across) * (high + gap) + Math.floor(pixel / wide);
      const at = 4 * (y * W + (k % across) * (wide + gap) + (pixel % wide));
      const level = Math.min(255, (255 * plane[pixel]) / white) | 0;
      for (let part = 0; part < 3; part++) {
        const grey = rgb ? (255 * plane[part * size + pixel]) / white : level;
        sheet.data[at + part] = map ? COLOURS[3 * level + part] : grey;
      }
      sheet.data[at + 3] = 255;
    }
  });
  context.putImageData(sheet, 0, 0);
};

/** @param {HTMLCanvasElement} canvas @param {Float32Array} values @param {number[]} shape of a layer @param {number} most */
const paintLayer = (canvas, values, shape, most) => {
  const [planes, high, wide] = shape.length === 3 ? shape : [values.length, 1, 1];
  const size = high * wide;
  const maps = Array.from({ length: planes }, (_, k) => values.subarray(k * size, (k + 1) * size));
  paint(canvas, maps, [high, wide], { most, map: true });
};

/** Several arrays as one. @param {Float32Array[]} parts */
const joined = parts => {
  if (parts.length === 1) return parts[0];
  const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => (all.set(part, at), at + part.length), 0);
  return all;
};

/** @param {string} tag @param {string} name @param {HTMLElement | null} home @param {Record<string, any>} attributes */
const make = (tag, name, home, attributes = {}) => {
  const element = /** @type {any} */ (document.createElement(tag));
  if (name) element.className = `peek-${name}`;
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  home?.append(element);
  return element;
};

// The view

/** Write what is new: the same text again would cost a layout. @param {any} element @param {string} text */
const say = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};

const state = {
  network: 0,
  fit: 0,
  byPixels: false,
  /** @type {Stroke[]} */ strokes: [],
  /** @type {Float32Array} */ pixels: new Float32Array(pixelCount),
  /** @type {Float64Array | null} */ mixed: null,
  /** @type {Float64Array} */ found: new Float64Array(0),
  /** @type {Seen | null} */ seen: null,
  brush: [width / 2 - 0.5, height / 2 - 0.5],
  down: false, // the brush of the keyboard
  pointer: -1, // the mouse, finger or pen that draws
  from: "",
};
const network = () => data.networks[state.network];
const fit = () => network().fits[state.fit];
const parts = () => network().layers.filter(layer => layer.step < 0).length;
const percent = (/** @type {number} */ share) => `${Math.round(100 * share)} %`;
const best = (/** @type {number[]} */ shares) => shares.indexOf(Math.max(...shares));

let waiting = false;
/** Show what is new with the next frame. */
const refresh = () => {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(show);
};

/** One frame: compute everything, and show it. */
const show = () => {
  waiting = false;
  const { network: n, fit: f, byPixels, pixels, mixed } = state;
  const seen = (state.seen = see(pixels, { network: n, fit: f, byPixels, code: mixed }));
  if (!mixed) state.found = seen.code;
  showPad();
  showLayers(seen);
  showAnswers(seen);
  showComponents(seen);
  find("again").disabled = !mixed;
  clearTimeout(telling);
  telling = setTimeout(tell, 600, seen);
};
let telling = 0;

const small = document.createElement("canvas");
const showPad = () => {
  const pad = /** @type {HTMLCanvasElement} */ (find("pad"));
  const context = /** @type {CanvasRenderingContext2D} */ (pad.getContext("2d"));
  const unit = pad.width / width;
  context.fillStyle = "#000";
  context.fillRect(0, 0, pad.width, pad.height);
  if (state.from === "image") {
    paint(small, [state.pixels], [height, width], { most: 1 });
    context.imageSmoothingEnabled = false;
    context.drawImage(small, 0, 0, pad.width, pad.height);
  }
  context.strokeStyle = "#fff";
  context.lineWidth = 2 * data.pen.radius * unit;
  context.lineCap = context.lineJoin = "round";
  for (const stroke of state.strokes) {
    context.beginPath();
    for (let k = 0; k < stroke.length; k += 2)
      context.lineTo((stroke[k] + 0.5) * unit, (stroke[k + 1] + 0.5) * unit);
    if (stroke.length === 2) context.lineTo((stroke[0] + 0.5) * unit + 0.01, (stroke[1] + 0.5) * unit);
    context.stroke();
  }
  if (document.activeElement !== pad) return;
  context.strokeStyle = state.down ? "#f5a623" : "#5aa9f0";
  context.lineWidth = 3;
  context.beginPath();
  context.arc((state.brush[0] + 0.5) * unit, (state.brush[1] + 0.5) * unit, 0.6 * unit + 4, 0, 7);
  context.stroke();
};

/** @type {{computed: any, predicted: any, error: any}[]} */
let columns = [];
const buildLayers = () => {
  find("layers").replaceChildren();
  const names = [
    "image",
    ...network()
      .layers.slice(parts())
      .map(layer => layer.name),
  ];
  columns = names.map((name, k) => {
    const column = make("div", "layer", find("layers"));
    make("b", "", column).textContent = k ? name : "image";
    const computed = make("canvas", "sheet", column, { role: "img" });
    const predicted = make("canvas", "sheet", column, { role: "img" });
    return { computed, predicted, error: make("span", "error", column) };
  });
};

/** @param {Seen} seen */
const showLayers = seen => {
  const count = parts();
  const image = joined(seen.layers.slice(0, count));
  const rebuilt = joined(seen.predicted.slice(0, count));
  columns.forEach(({ computed, predicted, error }, k) => {
    const values = k ? seen.layers[count + k - 1] : image;
    const guess = k ? seen.predicted[count + k - 1] : rebuilt;
    const { shape, name } = k ? network().layers[count + k - 1] : { shape: data.shape, name: "image" };
    const most = k ? Math.max(largest(values), 1e-9) : 1;
    const lost = errorOf(values, guess);
    for (const [canvas, plane] of [
      [computed, values],
      [predicted, guess],
    ]) {
      if (k) paintLayer(canvas, plane, shape, most);
      else paint(canvas, [plane], [height, width], { most });
    }
    computed.setAttribute("aria-label", `${name} as the network has it`);
    predicted.setAttribute(
      "aria-label",
      `${name} as ${seen.rank} components predict it, error ${lost.toFixed(2)}`,
    );
    say(error, `error ${lost.toFixed(2)}`);
  });
};

/** @type {{row: any, name: any, bars: any[], shares: any[]}[]} */
const answers = [];
const buildAnswers = () => {
  const body = find("answers");
  for (let k = 0; k < Math.min(10, data.classes.length); k++) {
    const row = make("tr", "", body);
    const name = make("th", "class", row, { scope: "row" });
    const cell = make("td", "bars", row, { "aria-hidden": true });
    const bars = ["bar", "bar peek-guess"].map(look => make("i", look, cell));
    answers.push({ row, name, bars, shares: [make("td", "share", row), make("td", "share", row)] });
  }
};

/** @param {Seen} seen */
const showAnswers = ({ probabilities, answer }) => {
  const order = probabilities.map((_, k) => k);
  if (order.length > answers.length) order.sort((a, b) => probabilities[b] - probabilities[a]);
  answers.forEach(({ row, name, bars, shares }, k) => {
    const own = order[k];
    say(name, (name.title = data.classes[own]));
    [probabilities[own], answer[own]].forEach((share, which) => {
      bars[which].style.width = `${100 * share}%`;
      say(shares[which], percent(share));
    });
    row.classList.toggle("peek-first", own === best(probabilities));
  });
  say(find("says"), data.classes[best(probabilities)]);
  say(find("guesses"), data.classes[best(answer)]);
};

const MOST = 8; // at the right end of a slider: a component of an image is rarely more than that
/** @type {{card: any, button: any, slider: any, output: any, shown: number}[]} */
let cards = [];
const buildComponents = () => {
  find("components").replaceChildren();
  const count = parts();
  const { rank, factors } = fit();
  cards = Array.from({ length: rank }, (_, k) => {
    const card = make("div", "card", find("components"));
    const button = make("button", "off", card, {
      type: "button",
      "aria-pressed": false,
      "aria-label": `component ${k + 1}: set to zero`,
    });
    const looks = factors.slice(0, count).map(index => {
      const size = arrays[index].length / rank;
      return arrays[index].subarray(k * size, (k + 1) * size);
    });
    paint(make("canvas", "sheet", button), [joined(looks)], [height, width]);
    const slider = make("input", "slider", card, {
      type: "range",
      min: 0,
      max: MOST,
      step: 0.05,
      "aria-label": `component ${k + 1}`,
    });
    const output = make("output", "amount", card, { "aria-hidden": true });
    slider.addEventListener("input", () => mix(k, Number(slider.value)));
    button.addEventListener("click", () => mix(k, state.seen?.code[k] ? 0 : state.found[k] || 1));
    return { card, button, slider, output, shown: -1 };
  });
};

/** @param {Seen} seen */
const showComponents = ({ code }) => {
  cards.forEach((parts, k) => {
    const { card, button, slider, output } = parts;
    const isOff = state.mixed !== null && code[k] === 0 && state.found[k] > 0;
    button.setAttribute("aria-pressed", isOff);
    if (parts.shown === code[k]) return; // most are zero, and stay it
    parts.shown = slider.value = code[k];
    output.textContent = `${k + 1}: ${code[k].toFixed(1)}`;
    slider.setAttribute("aria-valuetext", code[k].toFixed(2));
    card.classList.toggle("peek-none", code[k] < 0.05);
  });
};

/** @param {number} k @param {number} amount */
const mix = (k, amount) => {
  state.mixed = Float64Array.from(state.mixed ?? state.found);
  state.mixed[k] = amount;
  refresh();
};

/** The whole frame in words, for a screen reader and below the pictures, once things stand still.
 * @param {Seen} seen */
const tell = seen => {
  const most = [...seen.code.keys()]
    .sort((a, b) => seen.code[b] - seen.code[a])
    .slice(0, 3)
    .filter(k => seen.code[k] > 0);
  const named = most.map(k => `${k + 1} (${seen.code[k].toFixed(1)})`).join(", ") || "none";
  const [own, guess] = [best(seen.probabilities), best(seen.answer)];
  const source = state.mixed
    ? `your mix of ${seen.rank} components predicts`
    : `${seen.rank} components predict`;
  find("told").textContent =
    `The network answers ${data.classes[own]} (${percent(seen.probabilities[own])}). From what ${source} of its last ` +
    `layer it would answer ${data.classes[guess]} (${percent(seen.answer[guess])}). Largest components: ${named}.`;
};

// Hands

/** End every stroke: what follows begins another. */
const lift = () => Object.assign(state, { down: false, pointer: -1 });
const take = (/** @type {Float32Array} */ pixels, from = "image") => {
  if (from === "image") {
    state.strokes = [];
    lift();
  }
  Object.assign(state, { pixels, from, mixed: null });
  refresh();
};
const redraw = () => take(drawn(state.strokes), "hand");

const drawByPointer = () => {
  const pad = /** @type {HTMLCanvasElement} */ (find("pad"));
  /** @param {PointerEvent} event */
  const at = event => {
    const box = pad.getBoundingClientRect();
    return [
      ((event.clientX - box.left) / box.width) * width - 0.5,
      ((event.clientY - box.top) / box.height) * height - 0.5,
    ];
  };
  pad.addEventListener("pointerdown", event => {
    if (state.pointer >= 0 || event.button > 0) return;
    lift();
    state.pointer = event.pointerId;
    pad.setPointerCapture(state.pointer);
    state.strokes.push(at(event));
    redraw();
  });
  pad.addEventListener("pointermove", event => {
    if (event.pointerId !== state.pointer) return;
    const moves = event.getCoalescedEvents?.() ?? [];
    for (const move of moves.length ? moves : [event])
      state.strokes[state.strokes.length - 1].push(...at(move));
    redraw();
  });
  for (const end of ["pointerup", "pointercancel"]) pad.addEventListener(end, () => (state.pointer = -1));
  for (const change of ["focus", "blur"]) pad.addEventListener(change, refresh);
};

/** @type {Record<string, number[]>} */
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const drawByKeys = () =>
  find("pad").addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (ARROWS[event.key]) {
      const [dx, dy] = ARROWS[event.key];
      const [x, y] = state.brush;
      state.brush = [Math.min(width - 1, Math.max(0, x + dx)), Math.min(height - 1, Math.max(0, y + dy))];
      if (state.down) state.strokes[state.strokes.length - 1].push(...state.brush);
      state.down ? redraw() : refresh();
    } else if (event.key === " " || event.key === "Enter") {
      state.down = !state.down;
      if (state.down) state.strokes.push([...state.brush]);
      state.down ? redraw() : refresh();
    } else if (event.key === "Backspace") undo();
    else if (event.key === "Delete") clear();
    else return;
    event.preventDefault(); // no scrolling,
    event.stopPropagation(); // and no page turned
  });
const undo = () => {
  lift();
  state.strokes.pop();
  redraw();
};
const clear = () => {
  lift();
  state.strokes = [];
  redraw();
};

/** @param {string} name @param {string[]} choices @param {(index: number) => void} chosen */
const choose = (name, choices, chosen) => {
  const select = find(name);
  choices.forEach((choice, k) => (make("option", "", select, { value: k }).textContent = choice));
  select.closest("label").hidden = choices.length < 2;
  select.addEventListener("change", () => chosen(Number(select.value)));
};

const rebuild = () => {
  state.mixed = null;
  buildLayers();
  buildComponents();
  figure.dispatchEvent(new CustomEvent("peek-network"));
  refresh();
};

const start = () => {
  buildAnswers();
  choose(
    "network",
    data.networks.map(({ name }) => name),
    index => {
      state.network = index;
      rebuild();
    },
  );
  choose(
    "rank",
    data.networks[0].fits.map(({ rank }) => String(rank)),
    index => {
      state.fit = index;
      rebuild();
    },
  );
  choose("by", ["pixels and layers", "pixels alone"], index => {
    state.byPixels = index === 1;
    state.mixed = null;
    refresh();
  });
  const ready = Object.keys(data.strokes);
  choose("ready", ready, index => {
    lift();
    state.strokes = data.strokes[ready[index]].map(stroke =>
      stroke.map((v, k) => v * (k % 2 ? height : width) - 0.5),
    );
    redraw();
    find("ready").value = "";
  });
  data.picks.forEach((index, k) => {
    const name = data.labels.length
      ? `image of ${data.classes[data.labels[index]] ?? data.labels[index]}`
      : `image ${k + 1}`;
    const button = make("button", "pick", find("picks"), { type: "button", "aria-label": name, title: name });
    paint(make("canvas", "sheet", button), [imageAt(index)], [height, width], { most: 1 });
    button.addEventListener("click", () => take(imageAt(index)));
  });
  find("undo").addEventListener("click", undo);
  find("clear").addEventListener("click", clear);
  find("again").addEventListener("click", () => {
    state.mixed = null;
    refresh();
  });
  drawByPointer();
  drawByKeys();
  find("still").remove();
  find("live").hidden = false;
  find("network").value = String((state.network = data.start));
  find("rank").value = String((state.fit = data.networks[0].fits.length - 1));
  rebuild();
  take(imageAt(data.picks[0]));
};

// Watch it being found

const learn = {
  /** @type {Float32Array[]} */ X: [],
  /** @type {Record<string, Found>} */ found: {},
  seed: 0,
  runs: false,
};

const restart = () => {
  if (!learn.X.length) {
    const hidden = network().layers.slice(parts());
    learn.X = Array.from({ length: imageCount }, (_, k) => {
      const outputs = run(network(), imageAt(k));
      return joined([outputs[0], ...hidden.map(layer => layerOf(outputs, layer))]);
    });
  }
  learn.found = begin(learn.X, Number(find("parts").value), learn.seed);
  showLearned();
};

const stepOnce = () => {
  if (!learn.X.length) restart();
  for (const solver of Object.keys(UPDATES)) round(learn.X, learn.found[solver], solver);
  showLearned();
};

const goOn = () => {
  if (!learn.runs || !find("learn").open) return;
  stepOnce();
  requestAnimationFrame(goOn);
};

const showLearned = () => {
  for (const solver of Object.keys(UPDATES)) {
    const { W, F } = learn.found[solver];
    const rank = F.length / learn.X.length;
    const size = W.length / rank;
    const looks = Array.from({ length: rank }, (_, k) => W.subarray(k * size, k * size + pixelCount));
    paint(find(solver), looks, [height, width], { columns: 5 });
  }
  const [mu, hals] = Object.keys(UPDATES).map(solver => learn.found[solver].errors);
  const rounds = mu.length;
  const last = rounds
    ? `: relative error ${mu[rounds - 1].toFixed(3)} by MU, ${hals[rounds - 1].toFixed(3)} by HALS`
    : ", the same random start for both";
  find("progress").textContent = `${network().name}, ${imageCount} images, round ${rounds}${last}.`;
  find("chart").setAttribute("aria-label", `Relative error against rounds, up to round ${rounds}${last}.`);
  showChart(mu, hals);
};

/** @param {number[]} mu @param {number[]} hals */
const showChart = (mu, hals) => {
  const chart = /** @type {HTMLCanvasElement} */ (find("chart"));
  const context = /** @type {CanvasRenderingContext2D} */ (chart.getContext("2d"));
  const { width: W, height: H } = chart;
  const count = Math.max(20, mu.length);
  const [high, low] = [Math.max(0.01, ...mu.slice(0, 1)), Math.min(0.9, ...hals, ...mu) * 0.95];
  const y = (/** @type {number} */ error) => 10 + (H - 45) * (Math.log(high / error) / Math.log(high / low));
  const x = (/** @type {number} */ k) => 50 + ((W - 60) * k) / count;
  context.clearRect(0, 0, W, H);
  context.font = "15px sans-serif";
  context.lineWidth = 3;
  context.fillStyle = "#808080";
  for (const error of [high, low]) context.fillText(error.toFixed(2), 4, Math.min(H - 30, y(error) + 5));
  context.fillText(`${count} rounds`, W - 90, H - 8);
  for (const [errors, colour, name] of /** @type {[number[], string, string][]} */ ([
    [mu, "#2f7fd1", "MU"],
    [hals, "#c9701a", "HALS"],
  ])) {
    context.strokeStyle = context.fillStyle = colour;
    context.beginPath();
    errors.forEach((error, k) => context.lineTo(x(k + 1), y(error)));
    context.stroke();
    context.fillText(name, name === "MU" ? 60 : 100, H - 8);
  }
};

const prepareToLearn = () => {
  find("run").addEventListener("click", () => {
    learn.runs = !learn.runs;
    find("run").textContent = learn.runs ? "Pause" : "Run";
    goOn();
  });
  find("step").addEventListener("click", stepOnce);
  find("restart").addEventListener("click", () => {
    learn.seed += 1;
    restart();
  });
  find("parts").addEventListener("input", () => {
    find("count").value = find("parts").value;
    restart();
  });
  find("learn").addEventListener("toggle", () => (learn.X.length ? goOn() : restart()));
  figure.addEventListener("peek-network", () => {
    learn.X = [];
    if (find("learn").open) restart();
  });
};

prepareToLearn();
start();
// For tests, and for who wants more: the same functions that the page uses
Object.assign(figure, { playground: { data, see, drawn, show, state, learn, restart, round } });
