// Puts the page together: files and the camera in, messages out.

import { Live } from "./live.js";
import { Photos } from "./photos.js";
import { Frames, about, GONE } from "./server.js";

const VIDEO_ENDINGS = /\.(mp4|m4v|mov|avi|mkv|webm|mpe?g|wmv|flv|3gp|m?ts|m2ts|ogv|mjpeg)$/i;
const MOST_MESSAGES = 3;
const ABOUT_WAIT = 2000;

const connection = document.getElementById("connection");
const messages = document.getElementById("messages");
const announcer = document.getElementById("announcer");
const labelSets = document.getElementById("label-sets");
const veil = document.getElementById("drop-veil");

const tell = {
  error(text) {
    const message = document.createElement("p");
    message.textContent = text;
    messages.append(message);
    while (messages.children.length > MOST_MESSAGES) {
      messages.firstElementChild.remove();
    }
  },
  announce(text) {
    announcer.textContent = text;
  },
};

const facts = await knownAbout();
const frames = new Frames();
const live = new Live(facts, frames, labels, tell);
const photos = new Photos(facts, labels, tell);

frames.addEventListener("open", () => {
  connection.className = "connection open";
  connection.textContent = "Ready";
});
frames.addEventListener("gone", (event) => {
  connection.className = "connection gone";
  connection.textContent = event.detail || GONE;
});

sayWhereImagesGo();
document.getElementById("unsure-below").textContent = new Intl.NumberFormat("en", {
  style: "percent",
  maximumFractionDigits: 2,
}).format(facts.unsure_below);
offerLabelSets();
document.getElementById("camera").addEventListener("click", () => {
  messages.replaceChildren();
  live.useCamera();
});
const picker = document.getElementById("files");
picker.addEventListener("change", () => {
  take([...picker.files]);
  // So that the same file can be chosen again.
  picker.value = "";
});
document.addEventListener("paste", (event) => take([...event.clipboardData.files]));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  veil.hidden = false;
});
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) {
    veil.hidden = true;
  }
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  veil.hidden = true;
  take([...event.dataTransfer.files]);
});
document.documentElement.dataset.ready = "yes";

/** Takes files, as what they are: videos are played, all else is a photo or an error. */
function take(files) {
  if (files.length === 0) {
    return;
  }
  messages.replaceChildren();
  const videos = files.filter(isVideo);
  if (videos.length > 1) {
    tell.error(`One video at a time: of ${videos.length}, the first is played.`);
  }
  if (videos.length > 0) {
    live.useVideo(videos[0]);
  }
  files.filter((file) => !isVideo(file)).forEach((file) => photos.add(file));
}

function isVideo(file) {
  return file.type.startsWith("video/") || VIDEO_ENDINGS.test(file.name);
}

/** Returns the label set that is chosen. */
function labels() {
  const chosen = labelSets.querySelector("input:checked");
  return chosen?.value ?? Object.keys(facts.label_sets)[0];
}

/** Shows the words for a page of this computer alone, or those for a shared one. */
function sayWhereImagesGo() {
  for (const words of document.querySelectorAll("[data-shared]")) {
    words.hidden = words.dataset.shared !== String(facts.shared);
  }
}

function offerLabelSets() {
  const names = Object.entries(facts.label_sets);
  names.forEach(([name, title], place) => {
    const label = document.createElement("label");
    const input = document.createElement("input");
    input.type = "radio";
    input.name = "labels";
    input.value = name;
    input.checked = place === 0;
    input.addEventListener("change", () => {
      live.restart();
      photos.restart();
    });
    label.append(input, title);
    labelSets.append(label);
  });
  labelSets.hidden = names.length < 2;
}

async function knownAbout() {
  for (;;) {
    try {
      return await about();
    } catch (error) {
      connection.className = "connection gone";
      connection.textContent = error.message;
      await new Promise((done) => setTimeout(done, ABOUT_WAIT));
    }
  }
}
