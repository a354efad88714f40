// @ts-check
// What a Playground computes in its page: a network and the factorization of its layers, on what
// somebody draws. No library, no request. `playground-view.js` shows it; both run in one function.
//
// Shapes: an image is channels × height × width in one array; W is rank × features, a component a row.

/** @typedef {{rows: number, scale: number[], data: string}} Packed rows of 16-bit numbers, each with its scale */
/** @typedef {{op: string, into: number[], out: number[], kernel?: number[], stride?: number[], pad?: number[], dilation?: number[], groups?: number, border?: boolean, weight?: number, bias?: number}} Step */
/** @typedef {{name: string, step: number, shape: number[]}} Layer a recorded output: of step `step`; the image is -1 */
/** @typedef {{rank: number, factors: number[], weights: number[]}} Fit numbers of arrays, one for each layer */
/** @typedef {{name: string, steps: Step[], layers: Layer[], fits: Fit[]}} Network */
/** @typedef {{shape: number[], networks: Network[], start: number, arrays: Packed[], classes: string[], images: string, labels: number[], picks: number[], strokes: Record<string, number[][]>, pen: {box: number, radius: number, at: number[]}, unit: string}} Data */
/** @typedef {Float32Array | Float64Array} Floats */
/** @typedef {{W: Float32Array[], gram: Float64Array, rank: number}} Model what places an image: one W for each layer */
/** @typedef {{code: Float64Array, layers: Float32Array[], predicted: Float32Array[], errors: number[], probabilities: number[], answer: number[], rank: number}} Seen */

const figure = /** @type {HTMLElement} */ (document.currentScript?.closest("figure"));
const find = (/** @type {string} */ name) => /** @type {any} */ (figure.querySelector(`.peek-${name}`));
/** @type {Data} */
const data = JSON.parse(figure.querySelector("script[type='application/json']")?.textContent ?? "");
const [channels, height, width] = data.shape;
const pixelCount = channels * height * width;

// Numbers

const bytes = (/** @type {string} */ text) => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));

/** @param {Packed} packed */
const unpacked = ({ rows, scale, data }) => {
  const raw = new DataView(bytes(data).buffer);
  const count = raw.byteLength / 2;
  const values = new Float32Array(count);
  for (let k = 0; k < count; k++) {
    values[k] = raw.getInt16(2 * k, true) * scale[Math.floor((k * rows) / count)];
  }
  return values;
};
const arrays = data.arrays.map(unpacked);
const images = bytes(data.images);
const imageCount = images.length / pixelCount;
const imageAt = (/** @type {number} */ k) =>
  Float32Array.from(images.subarray(k * pixelCount, (k + 1) * pixelCount), value => value / 255);

/** Sum of products of a part of `a` and a part of `b`.
 * @param {Floats} a @param {Floats} b */
const dot = (a, b, at = 0, other = 0, count = b.length) => {
  let even = 0;
  let odd = 0;
  let k = 0; // two sums, which a processor adds at once
  for (; k + 1 < count; k += 2) {
    even += a[at + k] * b[other + k];
    odd += a[at + k + 1] * b[other + k + 1];
  }
  return k < count ? even + odd + a[at + k] * b[other + k] : even + odd;
};

/** Add `factor` times a part of `b` to a part of `a`.
 * @param {Floats} a @param {Floats} b @param {number} factor */
const addTo = (a, b, factor, at = 0, other = 0, count = b.length) => {
  for (let k = 0; k < count; k++) a[at + k] += factor * b[other + k];
};

const largest = (/** @type {ArrayLike<number>} */ values) => {
  let most = 0;
  for (let k = 0; k < values.length; k++) most = Math.max(most, values[k]);
  return most;
};

/** @param {Floats} logits */
const softmax = logits => {
  const most = Math.max(...logits);
  const powers = Array.from(logits, value => Math.exp(value - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map(value => value / sum);
};

// The network

/** Visit each place of a step's window, with the outputs (y0 to y1, x0 to x1) that see input there.
 * @param {any} step @param {(place: number, y: number[], x: number[]) => void} visit y: first, end, and input row of output 0; x: the same for columns */
const eachPlace = (step, visit) => {
  const [kh, kw] = step.kernel;
  const [, high, wide] = step.into;
  const [, rows, columns] = step.out;
  const range = (
    /** @type {number} */ axis,
    /** @type {number} */ k,
    /** @type {number} */ size,
    /** @type {number} */ outputs,
  ) => {
    const stride = step.stride[axis];
    const from = k * step.dilation[axis] - step.pad[axis];
    return [
      Math.max(0, Math.ceil(-from / stride)),
      Math.min(outputs, Math.floor((size - 1 - from) / stride) + 1),
      from,
    ];
  };
  for (let ky = 0; ky < kh; ky++) {
    for (let kx = 0; kx < kw; kx++)
      visit(ky * kw + kx, range(0, ky, high, rows), range(1, kx, wide, columns));
  }
};

/** @param {Float32Array} x @param {any} step @param {number} start @param {(a: number, b: number) => number} join */
const pool = (x, step, start, join) => {
  const [planes, high, wide] = step.into;
  const [, rows, columns] = step.out;
  const [down, right] = step.stride;
  const y = new Float32Array(planes * rows * columns).fill(start);
  eachPlace(step, (_, [y0, y1, top], [x0, x1, left]) => {
    for (let c = 0; c < planes; c++) {
      for (let row = y0; row < y1; row++) {
        const at = (c * rows + row) * columns;
        const from = (c * high + row * down + top) * wide + left;
        for (let k = x0; k < x1; k++) y[at + k] = join(y[at + k], x[from + k * right]);
      }
    }
  });
  return y;
};

/** @type {Record<string, (x: Float32Array, step: any) => Float32Array>} */
const OPERATIONS = {
  conv(x, step) {
    const [inputs, high, wide] = step.into;
    const [outputs, rows, columns] = step.out;
    const [down, right] = step.stride;
    const weight = arrays[step.weight];
    const bias = arrays[step.bias];
    const places = step.kernel[0] * step.kernel[1];
    const per = inputs / step.groups;
    const group = outputs / step.groups;
    const size = rows * columns;
    const y = new Float32Array(outputs * size);
    if (bias) bias.forEach((value, o) => y.fill(value, o * size, (o + 1) * size));
    eachPlace(step, (place, [y0, y1, top], [x0, x1, left]) => {
      for (let o = 0; o < outputs; o++) {
        for (let c = 0; c < per; c++) {
          const value = weight[(o * per + c) * places + place];
          const plane = (Math.floor(o / group) * per + c) * high;
          for (let row = y0; row < y1; row++) {
            const at = o * size + row * columns;
            const from = (plane + row * down + top) * wide + left;
            for (let k = x0; k < x1; k++) y[at + k] += value * x[from + k * right];
          }
        }
      }
    });
    return y;
  },
  max: (x, step) => pool(x, step, -Infinity, Math.max),
  avg(x, step) {
    const sum = (/** @type {number} */ a, /** @type {number} */ b) => a + b;
    const sums = pool(x, step, 0, sum);
    const whole = step.kernel[0] * step.kernel[1];
    const counts = step.border ? null : pool(new Float32Array(x.length).fill(1), step, 0, sum);
    return sums.map((value, k) => value / (counts ? counts[k] : whole));
  },
  relu: x => x.map(value => Math.max(0, value)),
  affine(x, step) {
    const weight = arrays[step.weight];
    const bias = arrays[step.bias];
    const size = x.length / weight.length;
    return x.map((value, k) => value * weight[Math.floor(k / size)] + bias[Math.floor(k / size)]);
  },
  linear(x, step) {
    const weight = arrays[step.weight];
    const bias = arrays[step.bias];
    return Float32Array.from(
      { length: step.out[0] },
      (_, o) => dot(weight, x, o * x.length) + (bias ? bias[o] : 0),
    );
  },
};

/** What each step after `from` gives, when that gave x.
 * @param {Network} network @param {Float32Array} x */
const run = (network, x, from = -1) => {
  const outputs = [x];
  for (const step of network.steps.slice(from + 1)) {
    outputs.push(OPERATIONS[step.op](outputs[outputs.length - 1], step));
  }
  return outputs;
};

// The factorization

/** Rows of W times themselves, weighted: rank × rank.
 * @param {Floats[]} Ws @param {number} rank @param {number[]} weights */
const gramOf = (Ws, rank, weights) => {
  const gram = new Float64Array(rank * rank);
  Ws.forEach((W, layer) => {
    const size = W.length / rank;
    if (!weights[layer]) return;
    for (let k = 0; k < rank; k++) {
      for (let j = 0; j <= k; j++) gram[k * rank + j] += weights[layer] * dot(W, W, k * size, j * size, size);
    }
  });
  for (let k = 0; k < rank; k++) for (let j = 0; j < k; j++) gram[j * rank + k] = gram[k * rank + j];
  return gram;
};

/** One step of coordinate descent for each of the `rank` rows of V ≥ 0, in order; how far the furthest moved.
 * @param {Floats} V rank × count @param {Floats} B rank × count @param {Float64Array} gram @param {number} rank */
const sweep = (V, B, gram, rank) => {
  const count = V.length / rank;
  const row = new Float64Array(count);
  let furthest = 0;
  for (let k = 0; k < rank; k++) {
    const own = gram[k * rank + k];
    if (own <= 1e-38) continue; // a component of zeros is left alone
    for (let n = 0; n < count; n++) row[n] = B[k * count + n];
    for (let j = 0; j < rank; j++) addTo(row, V, -gram[k * rank + j], 0, j * count, count);
    for (let n = 0; n < count; n++) {
      const before = V[k * count + n];
      const after = Math.max(0, before + row[n] / own);
      furthest = Math.max(furthest, Math.abs(after - before));
      V[k * count + n] = after;
    }
  }
  return furthest;
};

/** Non-negative least squares, as `CoupledFactors.transform`: from zero, until nothing moves.
 * @param {Float64Array} B @param {Float64Array} gram */
const placed = (B, gram) => {
  const code = new Float64Array(B.length);
  for (let round = 0; round < 3000; round++) {
    if (sweep(code, B, gram, B.length) <= 1e-7 * largest(code)) break;
  }
  return code;
};

/** @type {Map<string, Float64Array>} */
const grams = new Map();

/** Where an image lies among the components, by all layers or by those of the image alone.
 * @param {Network} network @param {Fit} fit @param {Float32Array[]} layers */
const place = (network, fit, layers, byPixels = false) => {
  const Ws = fit.factors.map(index => arrays[index]);
  const weights = fit.weights.map((weight, k) => (byPixels && network.layers[k].step >= 0 ? 0 : weight));
  const key = [...fit.factors, byPixels].join();
  const gram = grams.get(key) ?? gramOf(Ws, fit.rank, weights);
  grams.set(key, gram);
  const B = new Float64Array(fit.rank);
  layers.forEach((x, layer) => {
    if (weights[layer])
      for (let k = 0; k < fit.rank; k++) B[k] += weights[layer] * dot(Ws[layer], x, k * x.length);
  });
  return placed(B, gram);
};

/** What a code says of each layer.
 * @param {Fit} fit @param {Float64Array} code */
const predict = (fit, code) =>
  fit.factors.map(index => {
    const W = arrays[index];
    const out = new Float32Array(W.length / fit.rank);
    code.forEach((amount, k) => amount && addTo(out, W, amount, 0, k * out.length, out.length));
    return out;
  });

/** ‖a − b‖ / ‖a‖ @param {Float32Array} a @param {Float32Array} b */
const errorOf = (a, b) => {
  let lost = 0;
  for (let k = 0; k < a.length; k++) lost += (a[k] - b[k]) ** 2;
  const all = dot(a, a);
  return all ? Math.sqrt(lost / all) : 0;
};

/** The parts of the image that a layer is: whole, or one of its channels.
 * @param {Network} network @param {Float32Array} pixels */
const inputs = (network, pixels) => {
  const parts = network.layers.filter(layer => layer.step < 0).length;
  const size = pixels.length / parts;
  return Array.from({ length: parts }, (_, k) => pixels.subarray(k * size, (k + 1) * size));
};

/** What a fit has of a layer: nothing below zero.
 * @param {Float32Array[]} outputs @param {Layer} layer */
const layerOf = (outputs, layer) => outputs[layer.step + 1].map(value => Math.max(0, value));

/** Everything about one image.
 * @param {Float32Array} pixels @param {{network?: number, fit?: number, byPixels?: boolean, code?: Float64Array | null}} choice
 * @returns {Seen} */
const see = (pixels, { network: n = 0, fit: f = 0, byPixels = false, code = null } = {}) => {
  const network = data.networks[n];
  const fit = network.fits[f];
  const outputs = run(network, pixels);
  const hidden = network.layers.filter(layer => layer.step >= 0);
  const layers = [...inputs(network, pixels), ...hidden.map(layer => layerOf(outputs, layer))];
  const found = code ?? place(network, fit, layers, byPixels);
  const predicted = predict(fit, found);
  const last = network.layers[network.layers.length - 1];
  const after = run(network, predicted[predicted.length - 1], last.step);
  return {
    code: found,
    layers,
    predicted,
    rank: fit.rank,
    errors: layers.map((layer, k) => errorOf(layer, predicted[k])),
    probabilities: softmax(outputs[outputs.length - 1]),
    answer: softmax(after[after.length - 1]),
  };
};

// A drawing, prepared as the images are: scaled to their usual size and centred by mass

/** @typedef {number[]} Stroke x, y, x, y, … in pixels of an image */

/** @param {Stroke[]} strokes */
const bounds = strokes => {
  const xs = strokes.flatMap(stroke => stroke.filter((_, k) => k % 2 === 0));
  const ys = strokes.flatMap(stroke => stroke.filter((_, k) => k % 2 === 1));
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
};

/** Ink of a soft round pen along a line, into a map: 1 inside, falling to 0 over a pixel at its edge.
 * @param {Float32Array} map @param {number[]} line x0, y0, x1, y1 @param {number} radius */
const rub = (map, [x0, y0, x1, y1], radius) => {
  const reach = radius + 1;
  const dx = x1 - x0;
  const dy = y1 - y0;
  const length = dx * dx + dy * dy;
  const [top, bottom] = [Math.floor(Math.min(y0, y1) - reach), Math.ceil(Math.max(y0, y1) + reach)];
  const [left, right] = [Math.floor(Math.min(x0, x1) - reach), Math.ceil(Math.max(x0, x1) + reach)];
  for (let y = Math.max(0, top); y <= Math.min(height - 1, bottom); y++) {
    for (let x = Math.max(0, left); x <= Math.min(width - 1, right); x++) {
      const along = length ? Math.min(1, Math.max(0, ((x - x0) * dx + (y - y0) * dy) / length)) : 0;
      const away = Math.hypot(x - x0 - along * dx, y - y0 - along * dy);
      map[y * width + x] = Math.max(map[y * width + x], Math.min(1, Math.max(0, radius + 0.5 - away)));
    }
  }
};

/** @param {Stroke[]} strokes @param {number} scale @param {number} dx @param {number} dy */
const inked = (strokes, scale, dx, dy) => {
  const map = new Float32Array(height * width);
  const moved = strokes.map(stroke => stroke.map((value, k) => value * scale + (k % 2 ? dy : dx)));
  for (const stroke of moved) {
    for (let k = 0; k + 1 < stroke.length; k += 2) {
      const from = k >= 2 ? [stroke[k - 2], stroke[k - 1]] : [stroke[k], stroke[k + 1]];
      rub(map, [...from, stroke[k], stroke[k + 1]], data.pen.radius);
    }
  }
  return map;
};

/** @param {Stroke[]} strokes */
const drawn = strokes => {
  const pixels = new Float32Array(pixelCount);
  if (!strokes.length) return pixels;
  const { box, radius, at } = data.pen;
  const [x0, y0, x1, y1] = bounds(strokes);
  const scale = Math.min(3, Math.max(1, box - 2 * radius) / Math.max(x1 - x0, y1 - y0, 1e-6));
  const middle = [at[0] - (scale * (x0 + x1)) / 2, at[1] - (scale * (y0 + y1)) / 2];
  const first = inked(strokes, scale, middle[0], middle[1]);
  let mass = 0;
  let mx = 0;
  let my = 0;
  first.forEach((ink, k) => {
    mass += ink;
    mx += ink * (k % width);
    my += ink * Math.floor(k / width);
  });
  const map = inked(strokes, scale, middle[0] + at[0] - mx / mass, middle[1] + at[1] - my / mass);
  for (let c = 0; c < channels; c++) pixels.set(map, c * map.length);
  return pixels;
};

// Coupled NMF, found here: multiplicative updates beside HALS, from the same random start

/** @typedef {{W: Float32Array, F: Float32Array, errors: number[]}} Found rank × features, rank × images */

/** Numbers from 0 to 1 that a seed decides. @param {number} seed */
const random = seed => () => {
  seed = (seed + 0x6d2b79f5) | 0;
  let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
  return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
};

/** WᵀX @param {Float32Array[]} X an array for each image @param {Float32Array} W @param {number} rank */
const ontoImages = (X, W, rank) => {
  const B = new Float32Array(rank * X.length);
  const size = W.length / rank;
  X.forEach((x, n) => {
    for (let k = 0; k < rank; k++) B[k * X.length + n] = dot(W, x, k * size);
  });
  return B;
};

/** X F @param {Float32Array[]} X @param {Float32Array} F @param {number} rank */
const ontoFeatures = (X, F, rank) => {
  const size = X[0].length;
  const B = new Float32Array(rank * size);
  X.forEach((x, n) => {
    for (let k = 0; k < rank; k++) addTo(B, x, F[k * X.length + n], k * size);
  });
  return B;
};

/** V times numerator over denominator (Lee & Seung 2001); 1e-9 is peeklib's ε.
 * @param {Float32Array} V @param {Float32Array} B @param {Float64Array} gram @param {number} rank */
const multiply = (V, B, gram, rank) => {
  const count = V.length / rank;
  const below = new Float64Array(V.length);
  for (let k = 0; k < rank; k++) {
    for (let j = 0; j < rank; j++) addTo(below, V, gram[k * rank + j], k * count, j * count, count);
  }
  for (let k = 0; k < V.length; k++) V[k] *= B[k] / (below[k] + 1e-9);
};

/** @type {Record<string, typeof multiply>} */
const UPDATES = {
  mu: multiply,
  hals(V, B, gram, rank) {
    sweep(V, B, gram, rank); // twice, as B costs more than a sweep
    sweep(V, B, gram, rank);
  },
};

/** One round: F, then W; the relative error after it.
 * @param {Float32Array[]} X @param {Found} found @param {string} solver */
const round = (X, { W, F, errors }, solver) => {
  const rank = F.length / X.length;
  const energy = X.reduce((sum, x) => sum + dot(x, x), 0);
  UPDATES[solver](F, ontoImages(X, W, rank), gramOf([W], rank, [1]), rank);
  const B = ontoFeatures(X, F, rank);
  const gram = gramOf([F], rank, [1]);
  UPDATES[solver](W, B, gram, rank);
  const loss = energy - 2 * dot(W, B) + dot(gramOf([W], rank, [1]), gram);
  errors.push(Math.sqrt(Math.max(0, loss) / energy));
};

/** @param {Float32Array[]} X @param {number} rank @param {number} seed @returns {Record<string, Found>} */
const begin = (X, rank, seed) => {
  const next = random(seed);
  const size = X[0].length;
  const W = Float32Array.from({ length: rank * size }, next);
  const F = Float32Array.from({ length: rank * X.length }, next);
  const B = ontoFeatures(X, F, rank);
  const best = dot(W, B) / dot(gramOf([W], rank, [1]), gramOf([F], rank, [1]));
  return { mu: { W, F, errors: [] }, hals: { W: W.map(value => value * best), F: F.slice(), errors: [] } };
};
