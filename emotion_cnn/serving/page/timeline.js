// What all faces of a session showed over time: mean probabilities that fill a band.

const MOST_BINS = 480;
const FIRST_BIN_SECONDS = 1;
const LEAST_BINS = 10;
// Pixels of the axes, below and at the left: numbers, and what they are.
const BELOW = 36;
const LEFT = 54;
const TICKS = [0, 0.5, 1];
const STEPS = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 36_000];

const percent = new Intl.NumberFormat("en", { style: "percent" });

export class Timeline {
  #canvas;
  #text;
  #about;
  #drawIsDue = false;

  constructor(canvas, text, legend, about) {
    this.#canvas = canvas;
    this.#text = text;
    this.#about = about;
    about.classes.forEach((name, place) => {
      const entry = document.createElement("li");
      entry.textContent = name;
      entry.style.setProperty("--class-color", about.colors[place]);
      legend.append(entry);
    });
    const again = () => this.#drawSoon();
    new ResizeObserver(again).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
    this.clear();
  }

  clear() {
    // Of each bin the sums of the probabilities, and the number of faces.
    this.bins = [];
    this.binSeconds = FIRST_BIN_SECONDS;
    this.first = Infinity;
    this.#drawSoon();
  }

  /** Takes the faces of a frame. */
  add(seconds, faces) {
    this.first = Math.min(this.first, seconds);
    while (seconds >= MOST_BINS * this.binSeconds) {
      this.#widen();
    }
    const place = Math.floor(seconds / this.binSeconds);
    const bin = (this.bins[place] ??= { sums: this.#about.classes.map(() => 0), faces: 0 });
    for (const face of faces) {
      const decisive = face.smoothed ?? face.probabilities;
      this.#about.classes.forEach((name, index) => (bin.sums[index] += decisive[name]));
      bin.faces += 1;
    }
    this.#drawSoon();
  }

  #widen() {
    const joined = [];
    this.bins.forEach((bin, place) => {
      const half = Math.floor(place / 2);
      const other = joined[half];
      joined[half] = other
        ? { sums: bin.sums.map((sum, i) => sum + other.sums[i]), faces: bin.faces + other.faces }
        : bin;
    });
    this.bins = joined;
    this.binSeconds *= 2;
  }

  #drawSoon() {
    if (!this.#drawIsDue) {
      this.#drawIsDue = true;
      requestAnimationFrame(() => {
        this.#drawIsDue = false;
        this.#draw();
      });
    }
  }

  #draw() {
    const canvas = this.#canvas;
    const ratio = devicePixelRatio;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width) {
      return;
    }
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const style = getComputedStyle(canvas);
    // So that 100% is seen whole.
    const top = 6;
    const [band, length] = [height - BELOW - top, width - LEFT];
    context.translate(LEFT, top);
    context.fillStyle = style.getPropertyValue("--groove");
    context.fillRect(0, 0, length, band);
    const first = Math.min(this.first, this.bins.length * this.binSeconds);
    const begin = Math.floor(first / this.binSeconds);
    const count = Math.max(this.bins.length - begin, LEAST_BINS);
    const step = length / count;
    this.bins.forEach((bin, place) => {
      let above = band;
      bin.sums.forEach((sum, index) => {
        if (bin.faces) {
          const share = (band * sum) / bin.faces;
          above -= share;
          context.fillStyle = this.#about.colors[index];
          context.fillRect((place - begin) * step, above, step + 0.5, share);
        }
      });
    });
    context.fillStyle = style.getPropertyValue("--quiet");
    context.font = `12px ${style.fontFamily}`;
    context.textAlign = "center";
    // As many whole seconds between two marks as leave room for what they say.
    const perSecond = step / this.binSeconds;
    const between =
      STEPS.find((seconds) => seconds * perSecond >= 64) ?? STEPS.at(-1);
    const begun = begin * this.binSeconds;
    for (
      let at = Math.ceil(begun / between) * between;
      (at - begun) * perSecond <= length - 12;
      at += between
    ) {
      context.fillText(clock(at), (at - begun) * perSecond, band + 15);
    }
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const share of TICKS) {
      context.fillText(percent.format(share), -4, band * (1 - share));
    }
    context.textAlign = "center";
    context.fillText("time (minutes:seconds)", length / 2, band + 29);
    context.rotate(-Math.PI / 2);
    context.fillText("mean probability", -band / 2, 8 - LEFT);
    this.#text.textContent = this.#summary();
  }

  #summary() {
    const faces = this.bins.reduce((sum, bin) => sum + bin.faces, 0);
    if (!faces) {
      return "Mean of all faces; blank where none was seen.";
    }
    const means = this.#about.classes.map((name, index) => [
      this.bins.reduce((sum, bin) => sum + bin.sums[index], 0) / faces,
      name,
    ]);
    means.sort((one, other) => other[0] - one[0]);
    const words = means.slice(0, 3).map(([mean, name]) => `${name} ${percent.format(mean)}`);
    return `Mean of all faces: ${words.join(", ")}. Blank where none was seen.`;
  }
}

function clock(seconds) {
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
