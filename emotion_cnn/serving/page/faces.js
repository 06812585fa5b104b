// The faces of an image: a box on it and a card beside it for each.

import { explanation } from "./server.js";

const LEAVING_MILLISECONDS = 700;
const NEXT_HEAT_MAP_MILLISECONDS = 300;

/** The boxes and cards of one image, or of the frames of a camera. */
export class Faces {
  #about;
  #labels;
  #boxes;
  #cards;
  #onError;
  #shown = new Map();

  /**
   * @param view The element that holds `.boxes` and `.cards`.
   * @param about What the program says of the network.
   * @param labels Returns the label set of the predictions.
   * @param onError Takes the text of an error.
   */
  constructor(view, about, labels, onError) {
    this.#about = about;
    this.#labels = labels;
    this.#boxes = view.querySelector(".boxes");
    this.#cards = view.querySelector(".cards");
    this.#onError = onError;
    this.isFlipped = false;
  }

  /** Whether a heat map is shown of any face. */
  get isExplaining() {
    return [...this.#shown.values()].some((each) => each.isExplaining);
  }

  /** Shows the faces of an answer; those that were there before move. */
  show(answer) {
    const present = new Set();
    answer.line.faces.forEach((face, index) => {
      const key = face.track ?? face.face;
      present.add(key);
      const shown = this.#shown.get(key) ?? this.#added(key);
      this.#update(shown, face, answer, index);
    });
    for (const [key, shown] of this.#shown) {
      if (!present.has(key)) {
        this.#leave(key, shown);
      }
    }
  }

  /** Removes all of them. */
  clear() {
    for (const shown of this.#shown.values()) {
      clearTimeout(shown.leaving);
      shown.box.remove();
      shown.card.remove();
    }
    this.#shown.clear();
  }

  #added(key) {
    const template = document.getElementById("card-template");
    const card = template.content.firstElementChild.cloneNode(true);
    const box = document.createElement("button");
    box.type = "button";
    box.className = "box";
    box.setAttribute("aria-pressed", "false");
    box.append(document.createElement("span"));
    box.firstElementChild.append("", withText("span", "word", ""));
    const shown = { box, card, isExplaining: false, asked: 0, leaving: null };
    const bars = card.querySelector(".bars");
    shown.bars = this.#about.classes.map((name, place) => {
      const bar = document.createElement("li");
      bar.className = "bar";
      bar.append(withText("span", "name", name), withText("span", "groove", ""));
      bar.append(withText("span", "value", ""));
      const fill = withText("span", "fill", "");
      fill.style.setProperty("--class-color", this.#about.colors[place]);
      fill.style.transform = "translateX(-100%)";
      bar.children[1].append(fill);
      bars.append(bar);
      return bar;
    });
    const toggle = () => this.#toggle(shown);
    box.addEventListener("click", toggle);
    card.querySelector(".heat").addEventListener("click", toggle);
    this.#boxes.append(box);
    this.#cards.append(card);
    this.#shown.set(key, shown);
    return shown;
  }

  #update(shown, face, answer, index) {
    const { box, card } = shown;
    const words = answer.words[index];
    const percents = answer.percents[index];
    const image = bytesOf(answer.images[index]);
    const number = face.track ?? face.face;
    shown.face = face;
    shown.image = image;
    clearTimeout(shown.leaving);
    shown.leaving = null;
    card.classList.remove("leaving");
    card.querySelector("h3").textContent = `${number}: ${words}`;
    const seen = card.querySelector(".seen");
    seen.setAttribute("aria-label", `Face ${number}, as the network sees it`);
    card.querySelector(".heat").setAttribute("aria-label", `Heat map of face ${number}`);
    const decisive = face.smoothed ?? face.probabilities;
    this.#about.classes.forEach((name, place) => {
      const bar = shown.bars[place];
      const share = decisive[name];
      bar.classList.toggle("first", name === face.emotion);
      bar.querySelector(".fill").style.transform = `translateX(${100 * (share - 1)}%)`;
      bar.querySelector(".value").textContent = `${percents[place]}%`;
    });
    box.hidden = face.box === null;
    if (face.box !== null) {
      this.#place(box, face.box, answer);
      box.classList.toggle("unsure", face.unsure);
      const color = this.#about.colors[this.#about.classes.indexOf(face.emotion)];
      box.style.setProperty("--class-color", color);
      const short = face.unsure ? "unsure" : face.emotion;
      const [numeral, word] = box.firstElementChild.childNodes;
      numeral.textContent = number;
      word.textContent = `: ${short}`;
      box.setAttribute("aria-label", `Face ${number}: ${words}. Heat map`);
      shown.crop = inPercentOf(face.box, answer.crops[index]);
    }
    if (!shown.isExplaining) {
      draw(seen, grayPixels(image), this.#about.size);
    } else {
      this.#explain(shown);
    }
  }

  #place(box, [left, top, right, bottom], { width, height }) {
    // A detector's box may reach beyond the image.
    const [x0, x1] = [Math.max(0, left), Math.min(width, right)];
    const [y0, y1] = [Math.max(0, top), Math.min(height, bottom)];
    const start = this.isFlipped ? width - x1 : x0;
    box.style.left = `${(100 * start) / width}%`;
    box.style.top = `${(100 * y0) / height}%`;
    box.style.width = `${(100 * (x1 - x0)) / width}%`;
    box.style.height = `${(100 * (y1 - y0)) / height}%`;
    box.classList.toggle("at-top", y0 < 0.08 * height);
  }

  #toggle(shown) {
    shown.isExplaining = !shown.isExplaining;
    for (const each of [shown.box, shown.card.querySelector(".heat")]) {
      each.setAttribute("aria-pressed", shown.isExplaining);
    }
    shown.box.querySelector("canvas")?.remove();
    if (shown.isExplaining) {
      shown.asked = 0;
      this.#explain(shown);
    } else {
      draw(shown.card.querySelector(".seen"), grayPixels(shown.image), this.#about.size);
    }
  }

  /** Fetches a heat map and shows it; of a camera not of each frame. */
  async #explain(shown) {
    if (performance.now() - shown.asked < NEXT_HEAT_MAP_MILLISECONDS) {
      return;
    }
    shown.asked = Infinity; // Until it is there.
    try {
      const map = await explanation(shown.image, shown.face.emotion, this.#labels());
      if (shown.isExplaining) {
        this.#drawMap(shown, map);
      }
    } catch (error) {
      if (shown.isExplaining) {
        this.#toggle(shown);
      }
      this.#onError(error.message);
    }
    shown.asked = performance.now();
  }

  #drawMap(shown, map) {
    const pixels = colorPixels(map);
    draw(shown.card.querySelector(".seen"), pixels, this.#about.size);
    if (shown.crop) {
      const canvas =
        shown.box.querySelector("canvas") ?? document.createElement("canvas");
      draw(canvas, pixels, this.#about.size);
      Object.assign(canvas.style, shown.crop);
      shown.box.append(canvas);
    }
  }

  /** Takes a face away once it has been missing for a while: frames may miss one. */
  #leave(key, shown) {
    shown.box.hidden = true;
    shown.card.classList.add("leaving");
    shown.leaving ??= setTimeout(() => {
      shown.box.remove();
      shown.card.remove();
      this.#shown.delete(key);
    }, LEAVING_MILLISECONDS);
  }
}

/** Returns an element with a class and a text. */
export function withText(tag, className, text) {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

export function bytesOf(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

function inPercentOf(box, crop) {
  const width = box[2] - box[0];
  const height = box[3] - box[1];
  return {
    left: `${(100 * (crop[0] - box[0])) / width}%`,
    top: `${(100 * (crop[1] - box[1])) / height}%`,
    width: `${(100 * (crop[2] - crop[0])) / width}%`,
    height: `${(100 * (crop[3] - crop[1])) / height}%`,
  };
}

function grayPixels(image) {
  const pixels = new Uint8ClampedArray(4 * image.length).fill(255);
  image.forEach((level, place) => pixels.fill(level, 4 * place, 4 * place + 3));
  return pixels;
}

function colorPixels(map) {
  const pixels = new Uint8ClampedArray((4 * map.length) / 3).fill(255);
  map.forEach((level, place) => {
    pixels[4 * Math.floor(place / 3) + (place % 3)] = level;
  });
  return pixels;
}

function draw(canvas, pixels, size) {
  canvas.width = size;
  canvas.height = size;
  canvas.getContext("2d").putImageData(new ImageData(pixels, size, size), 0, 0);
}
