// Photos: one after the other, each with its faces.

import { save, saveJson, saveTable, stamped, stem } from "./downloads.js";
import { Faces, bytesOf } from "./faces.js";
import { analyse, annotated } from "./server.js";

export class Photos {
  #section = document.getElementById("photos");
  #list = document.getElementById("photo-list");
  #about;
  #labels;
  #tell;
  #photos = new Set();
  #isWorking = false;

  /**
   * @param about What the program says of the network.
   * @param labels Returns the label set to predict by.
   * @param tell `{ error, announce }`, which take a text.
   */
  constructor(about, labels, tell) {
    this.#about = about;
    this.#labels = labels;
    this.#tell = tell;
    for (const [id, action] of Object.entries({
      "photos-csv": () => saveTable(about.csv.photo, this.#answers(), stamped("photos")),
      "photos-json": () => saveJson(this.#answers(), stamped("photos")),
      "photos-clear": () => [...this.#photos].forEach((photo) => this.#remove(photo)),
    })) {
      document.getElementById(id).addEventListener("click", action);
    }
  }

  /** Takes a file, whatever is in it. */
  add(file) {
    const template = document.getElementById("photo-template");
    const article = template.content.firstElementChild.cloneNode(true);
    const name = file.name || "image";
    article.querySelector("h3").textContent = name;
    const view = article.querySelector(".view");
    const photo = { file, name, article, answer: null, isWaiting: true };
    photo.faces = new Faces(view, this.#about, this.#labels, this.#tell.error);
    const actions = {
      ".again": () => this.#queue(photo),
      ".png": () => this.#savePng(photo),
      ".remove": () => this.#remove(photo),
    };
    for (const [place, action] of Object.entries(actions)) {
      const button = article.querySelector(place);
      button.setAttribute("aria-label", `${button.textContent}: ${name}`);
      button.addEventListener("click", action);
    }
    this.#photos.add(photo);
    this.#list.append(article);
    this.#section.hidden = false;
    this.#queue(photo);
  }

  /** Has all photos analysed anew, by another label set. */
  restart() {
    for (const photo of this.#photos) {
      this.#queue(photo);
    }
  }

  #answers() {
    return [...this.#photos].map((photo) => photo.answer).filter(Boolean);
  }

  #queue(photo) {
    photo.isWaiting = true;
    this.#say(photo, "Waiting…");
    photo.article.setAttribute("aria-busy", "true");
    photo.article.querySelector(".again").hidden = true;
    this.#work();
  }

  /** Analyses what waits; one at a time, so that other pages have their turn too. */
  async #work() {
    if (this.#isWorking) {
      return;
    }
    this.#isWorking = true;
    let photo;
    while ((photo = [...this.#photos].find((each) => each.isWaiting))) {
      photo.isWaiting = false;
      await this.#analyse(photo);
    }
    this.#isWorking = false;
  }

  async #analyse(photo) {
    const { file, name, article } = photo;
    article.classList.remove("failed");
    this.#say(photo, "Analysing…");
    try {
      if (file.size > this.#about.photo_bytes) {
        const most = Math.floor(this.#about.photo_bytes / 2 ** 20);
        throw new Error(`It is larger than ${most} MB.`);
      }
      const answer = await analyse(file, name, this.#labels());
      if (this.#photos.has(photo) && !photo.isWaiting) {
        this.#show(photo, answer);
      }
    } catch (error) {
      photo.answer = null;
      article.querySelector(".view").hidden = true;
      article.querySelector(".png").hidden = true;
      article.querySelector(".again").hidden = false;
      article.classList.add("failed");
      this.#say(photo, error.message);
      this.#tell.announce(`${name}: ${error.message}`);
    }
    if (!photo.isWaiting) {
      article.setAttribute("aria-busy", "false");
    }
  }

  #show(photo, answer) {
    const { article, name } = photo;
    const text = answer.summary;
    const image = article.querySelector("img");
    let isFirst = false;
    if (photo.answer === null) {
      const preview = new Blob([bytesOf(answer.preview)], { type: "image/jpeg" });
      this.#forget(image);
      image.src = URL.createObjectURL(preview);
      isFirst = article === this.#list.firstElementChild;
    }
    image.alt = `${name}. ${text}`;
    photo.answer = { csv: answer.csv, line: answer.line };
    article.querySelector(".view").hidden = false;
    article.querySelector(".png").hidden = false;
    article.querySelector(".verdict").textContent = text;
    this.#say(photo, "");
    photo.faces.show(answer);
    if (isFirst) {
      // The size of the image is known once it is read.
      image.decode().then(() => article.scrollIntoView({ block: "nearest" }), () => {});
    }
    this.#tell.announce(`${name}: ${text}`);
  }

  #say(photo, text) {
    photo.article.querySelector(".state").textContent = text;
  }

  async #savePng(photo) {
    const button = photo.article.querySelector(".png");
    button.disabled = true;
    try {
      const image = await annotated(
        photo.file,
        this.#labels(),
        photo.faces.isExplaining,
      );
      save(image, `${stem(photo.name)}-annotated.png`);
    } catch (error) {
      this.#tell.error(`${photo.name}: ${error.message}`);
    }
    button.disabled = false;
  }

  #remove(photo) {
    this.#photos.delete(photo);
    photo.isWaiting = false;
    this.#forget(photo.article.querySelector("img"));
    photo.article.remove();
    this.#section.hidden = this.#photos.size === 0;
  }

  #forget(image) {
    if (image.src) {
      URL.revokeObjectURL(image.src);
    }
  }
}
