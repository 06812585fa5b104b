// The camera, or a video that this browser plays: frames out, predictions in.

import { save, saveJson, saveTable, stamped } from "./downloads.js";
import { Faces } from "./faces.js";
import { annotated } from "./server.js";
import { Timeline } from "./timeline.js";

// One that is analysed, and one that is on its way.
const MOST_IN_FLIGHT = 2;
const LONGEST_SIDE = 1280;
// The next where an image is larger than the program takes.
const QUALITIES = [0.9, 0.7, 0.4, 0.1];
const MOST_ANSWERS = 50_000;
const ANNOUNCE_MILLISECONDS = 4000;

const CAMERA_ERRORS = {
  NotAllowedError:
    "The browser may not use the camera. Allow it beside the address of this page, " +
    "then try again.",
  NotFoundError: "No camera was found. Connect one, then try again.",
  NotReadableError: "The camera cannot be read: another program may be using it.",
  OverconstrainedError: "No camera was found that is fit for this.",
};
const NO_CAMERA_HERE =
  "Browsers give the camera only to pages of this computer. Open the page there, or " +
  "choose a photo or a video.";
const FRAMES_ARE_HIDDEN =
  "This browser hides from pages what a video shows (resistance to fingerprinting), so " +
  "that no face would be found. Allow this page to extract canvas data, beside its " +
  "address, and try again, or choose photos.";

export class Live {
  #section = document.getElementById("live");
  #video = document.getElementById("video");
  #verdict = this.#section.querySelector(".verdict");
  #rate = document.getElementById("rate");
  #canvas = document.createElement("canvas");
  #about;
  #frames;
  #labels;
  #tell;
  #faces;
  #timeline;
  #source = null;
  #address = null;
  #isRunning = false;
  #isDue = false;
  #isEncoding = false;
  #number = 0;
  #tracks = 0;
  #answered = 0;
  #firstOfStart = 1;
  #startedAt = 0;
  #latest = null;
  #answers = [];
  #times = [];
  #announced = { at: 0, text: "" };

  /**
   * @param about What the program says of the network.
   * @param frames The connection for frames.
   * @param labels Returns the label set to predict by.
   * @param tell `{ error, announce }`, which take a text.
   */
  constructor(about, frames, labels, tell) {
    this.#about = about;
    this.#frames = frames;
    this.#labels = labels;
    this.#tell = tell;
    this.#faces = new Faces(this.#section, about, labels, tell.error);
    this.#timeline = new Timeline(
      document.getElementById("timeline"),
      document.getElementById("timeline-text"),
      document.getElementById("legend"),
      about,
    );
    frames.addEventListener("open", () => this.restart());
    frames.addEventListener("answer", (event) => this.#show(event.detail));
    this.#video.addEventListener("error", () => this.#cannotPlay());
    this.#video.addEventListener("loadedmetadata", () => {
      // Sound that the browser knows, with images that it does not.
      if (this.#video.videoWidth === 0) {
        this.#cannotPlay();
      }
    });
    this.#video.addEventListener("seeking", () => this.restart());
    for (const [id, action] of Object.entries({
      "live-stop": () => this.stop(),
      "live-csv": () =>
        saveTable(about.csv.live, this.#answers, stamped(this.#source)),
      "live-json": () => saveJson(this.#answers, stamped(this.#source)),
      "live-png": () => this.#savePng(),
    })) {
      document.getElementById(id).addEventListener("click", action);
    }
  }

  /** Asks for the camera, and begins. */
  async useCamera() {
    if (!this.#canRead()) {
      return;
    }
    if (!navigator.mediaDevices?.getUserMedia) {
      this.#tell.error(NO_CAMERA_HERE);
      return;
    }
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({
        audio: false,
        video: { width: { ideal: 640 }, height: { ideal: 480 }, facingMode: "user" },
      });
    } catch (error) {
      const text = CAMERA_ERRORS[error.name];
      this.#tell.error(text ?? `The camera cannot be used: ${error.message}`);
      return;
    }
    this.#begin("camera", "Camera");
    stream.getVideoTracks()[0].addEventListener("ended", () => {
      this.stop();
      this.#tell.error("The camera was disconnected.");
    });
    this.#flip(true);
    this.#video.controls = false;
    this.#video.srcObject = stream;
    await this.#play();
  }

  /** Plays a video, and begins. */
  async useVideo(file) {
    if (!this.#canRead()) {
      return;
    }
    this.#begin(file.name, file.name);
    this.#flip(false);
    this.#video.controls = true;
    this.#address = URL.createObjectURL(file);
    this.#video.src = this.#address;
    await this.#play();
  }

  /** Ends it; what was found can still be saved. */
  stop() {
    this.#isRunning = false;
    // First, so that the camera's last image stays behind its boxes.
    this.#video.pause();
    for (const track of this.#video.srcObject?.getTracks() ?? []) {
      track.stop();
    }
    this.#rate.textContent = "stopped";
    document.getElementById("live-stop").disabled = true;
  }

  /** Has faces followed anew, such as by another label set. */
  restart() {
    if (!this.#isRunning) {
      return;
    }
    this.#frames.start(this.#source, this.#labels(), this.#tracks);
    this.#firstOfStart = this.#number + 1;
    this.#answered = this.#number;
    this.#faces.clear();
    if (this.#video.paused && !this.#video.seeking) {
      // No other frame will be shown.
      this.#capture(this.#video.currentTime);
    } else {
      this.#captureSoon();
    }
  }

  #canRead() {
    const canRead = canvasesAreRead();
    if (!canRead) {
      this.#tell.error(FRAMES_ARE_HIDDEN);
    }
    return canRead;
  }

  #begin(source, title) {
    this.stop();
    this.#video.srcObject = null;
    this.#video.removeAttribute("src");
    // Lets go of what was shown before.
    this.#video.load();
    if (this.#address !== null) {
      URL.revokeObjectURL(this.#address);
      this.#address = null;
    }
    this.#source = source;
    this.#answers = [];
    this.#times = [];
    this.#tracks = 0;
    this.#latest = null;
    this.#timeline.clear();
    this.#startedAt = performance.now();
    this.#isRunning = true;
    this.#section.hidden = false;
    this.#verdict.textContent = "Waiting for the first prediction…";
    this.#rate.textContent = "";
    document.getElementById("live-heading").textContent = title;
    document.getElementById("live-stop").disabled = false;
    this.restart();
  }

  #flip(isFlipped) {
    this.#faces.isFlipped = isFlipped;
    this.#section.querySelector(".frame").classList.toggle("flipped", isFlipped);
    this.#section.querySelector(".cards").classList.toggle("flipped-cards", isFlipped);
  }

  async #play() {
    this.#section.scrollIntoView({ block: "nearest" });
    try {
      await this.#video.play();
    } catch {
      // What cannot be played is an event of its own; else the user presses play.
    }
    this.#captureSoon();
  }

  #captureSoon() {
    if (this.#isDue) {
      return;
    }
    this.#isDue = true;
    if (this.#video.requestVideoFrameCallback) {
      // Firefox sometimes gives the time of a frame that is yet to come.
      this.#video.requestVideoFrameCallback((_, frame) =>
        this.#capture(Math.min(frame.mediaTime, this.#video.currentTime)),
      );
    } else {
      requestAnimationFrame(() => this.#capture(this.#video.currentTime));
    }
  }

  /** Sends what is shown, unless answers are awaited already: the newest frame counts. */
  async #capture(mediaSeconds) {
    this.#isDue = false;
    if (!this.#isRunning || this.#isEncoding) {
      return;
    }
    const inFlight = this.#number - this.#answered;
    if (!this.#frames.isOpen || inFlight >= MOST_IN_FLIGHT) {
      this.#captureSoon();
      return;
    }
    this.#isEncoding = true;
    try {
      const isCamera = this.#address === null;
      const seconds = isCamera
        ? (performance.now() - this.#startedAt) / 1000
        : mediaSeconds;
      const image = await this.#encoded();
      const content = await image?.arrayBuffer();
      // Much may have happened in the meantime.
      if (content && this.#frames.isOpen) {
        this.#number += 1;
        this.#latest = image;
        this.#frames.send(this.#number, seconds, content);
      }
    } finally {
      this.#isEncoding = false;
    }
    this.#captureSoon();
  }

  async #encoded() {
    const { videoWidth: width, videoHeight: height } = this.#video;
    if (!width) {
      return null;
    }
    const zoom = Math.min(1, LONGEST_SIDE / Math.max(width, height));
    this.#canvas.width = Math.max(1, Math.round(width * zoom));
    this.#canvas.height = Math.max(1, Math.round(height * zoom));
    const context = this.#canvas.getContext("2d");
    context.drawImage(this.#video, 0, 0, this.#canvas.width, this.#canvas.height);
    for (const quality of QUALITIES) {
      const image = await new Promise((done) =>
        this.#canvas.toBlob(done, "image/jpeg", quality),
      );
      if (image === null || image.size <= this.#about.frame_bytes) {
        return image;
      }
    }
    return null;
  }

  #show(answer) {
    this.#answered = Math.max(this.#answered, answer.number);
    if (answer.number < this.#firstOfStart || this.#source === null) {
      return;
    }
    if (answer.error) {
      this.#verdict.textContent = answer.error;
      return;
    }
    const { faces, seconds } = answer.line;
    this.#tracks = Math.max(this.#tracks, ...faces.map((face) => face.track));
    this.#faces.show(answer);
    this.#timeline.add(seconds, faces);
    this.#verdict.textContent = answer.summary;
    this.#announce(answer.summary);
    if (this.#isRunning) {
      this.#showRate();
    }
    if (this.#answers.length < MOST_ANSWERS) {
      this.#answers.push({ csv: answer.csv, line: answer.line });
    }
  }

  #showRate() {
    const now = performance.now();
    this.#times.push(now);
    while (now - this.#times[0] > 2000) {
      this.#times.shift();
    }
    const span = (now - this.#times[0]) / 1000;
    if (span > 1) {
      const rate = Math.round((this.#times.length - 1) / span);
      const words = rate === 1 ? "prediction" : "predictions";
      const full = this.#answers.length >= MOST_ANSWERS ? "; no more are noted" : "";
      this.#rate.textContent = `${rate} ${words} a second${full}`;
    }
  }

  /** Tells screen readers what has changed, but not each frame. */
  #announce(text) {
    const words = text.replaceAll(/ \d+%/g, "");
    const now = performance.now();
    if (words !== this.#announced.text && now - this.#announced.at > ANNOUNCE_MILLISECONDS) {
      this.#announced = { at: now, text: words };
      this.#tell.announce(words);
    }
  }

  async #savePng() {
    if (this.#latest === null) {
      return;
    }
    try {
      const image = await annotated(
        this.#latest,
        this.#labels(),
        this.#faces.isExplaining,
      );
      save(image, `${stamped(this.#source)}.png`);
    } catch (error) {
      this.#tell.error(error.message);
    }
  }

  #cannotPlay() {
    if (this.#address === null) {
      return;
    }
    const name = this.#source;
    this.stop();
    this.#source = null;
    this.#section.hidden = true;
    this.#tell.error(
      `${name}: this browser cannot play it; it is damaged, no video, or of a codec ` +
        "that the browser does not know. The command emotion-cnn predict reads more.",
    );
  }
}

/** Whether the browser gives back what was drawn, rather than noise. */
function canvasesAreRead() {
  const color = [40, 120, 200, 255];
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d");
  context.fillStyle = `rgb(${color.slice(0, 3)})`;
  context.fillRect(0, 0, canvas.width, canvas.height);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  // A little noise, as in private windows, does no harm.
  return data.every((value, place) => Math.abs(value - color[place % 4]) < 16);
}
