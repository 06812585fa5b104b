// What the page asks the program that serves it; all paths are below the page's own.

const HEADER_BYTES = 12;
const LONGEST_NAME = 255;
const FIRST_WAIT = 500;
const LONGEST_WAIT = 5000;

export const GONE =
  "The program does not answer: it has ended, or is busy. If it was started again, " +
  "open the address that it printed then.";

/** Fetches what the page has to know of the network. */
export async function about() {
  return (await asked("about")).json();
}

/** Has a photo analysed. */
export async function analyse(file, name, labels) {
  const query = { name: name.slice(0, LONGEST_NAME), labels };
  return (await asked("photo", query, file)).json();
}

/** Fetches an annotated copy of a photo, as a PNG file. */
export async function annotated(file, labels, explain) {
  const query = explain ? { labels, explain: "1" } : { labels };
  return (await asked("annotated", query, file)).blob();
}

/** Fetches a heat map: bytes of RGB for each pixel of a face. */
export async function explanation(pixels, emotion, labels) {
  const answer = await asked("explanation", { emotion, labels }, pixels);
  return new Uint8Array(await answer.arrayBuffer());
}

/** Sends a request, and returns the answer; throws an Error whose text is for people. */
async function asked(path, query = {}, body = undefined) {
  const address = `${path}?${new URLSearchParams(query)}`;
  let answer;
  try {
    answer = await fetch(address, body === undefined ? {} : { method: "POST", body });
  } catch {
    throw new Error(GONE);
  }
  if (!answer.ok) {
    const found = await answer.json().catch(() => ({}));
    throw new Error(found.error ?? `The program refused it (${answer.status}).`);
  }
  return answer;
}

/** The connection for frames: opens by itself, again and again where it is lost. */
export class Frames extends EventTarget {
  #socket = null;
  #wait = FIRST_WAIT;

  constructor() {
    super();
    this.#open();
    // Whoever comes back to the page need not wait.
    addEventListener("pageshow", () => this.#socket ?? this.#open());
  }

  get isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  /** Begins a camera or video; faces are followed anew, and numbered after `tracks`. */
  start(source, labels, tracks) {
    if (this.isOpen) {
      const start = { source: source.slice(0, LONGEST_NAME), labels, tracks };
      this.#socket.send(JSON.stringify({ start }));
    }
  }

  /** Sends a frame. */
  send(number, seconds, image) {
    const message = new Uint8Array(HEADER_BYTES + image.byteLength);
    const header = new DataView(message.buffer);
    header.setUint32(0, number);
    header.setFloat64(4, seconds);
    message.set(new Uint8Array(image), HEADER_BYTES);
    this.#socket.send(message);
  }

  #open() {
    const address = new URL("frames", document.baseURI);
    address.protocol = "ws:";
    const socket = new WebSocket(address);
    this.#socket = socket;
    socket.addEventListener("open", () => {
      this.#wait = FIRST_WAIT;
      this.dispatchEvent(new Event("open"));
    });
    socket.addEventListener("message", (event) => {
      const answer = JSON.parse(event.data);
      this.dispatchEvent(new CustomEvent("answer", { detail: answer }));
    });
    socket.addEventListener("close", (event) => {
      this.#socket = null;
      this.dispatchEvent(new CustomEvent("gone", { detail: event.reason }));
      setTimeout(() => this.#socket ?? this.#open(), this.#wait);
      this.#wait = Math.min(2 * this.#wait, LONGEST_WAIT);
    });
  }
}
