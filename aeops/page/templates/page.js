// The try-it box, and the refresh. Everything else on the page works without this script.
"use strict";

const REFRESH_INTERVAL = 15000; // milliseconds
const LOADING_INTERVAL = 1500; // while some data is still loading

// ---------------------------------------------------------------- the try-it box

const form = document.getElementById("try-form");

function mediaTypeOf(file) {
  if (/\.npy$/i.test(file.name)) return "application/x-npy";
  if (/\.txt$/i.test(file.name)) return "text/plain";
  return file.type || "application/octet-stream";
}

function showError(container, message) {
  const line = document.createElement("p");
  line.className = "error";
  line.textContent = message;
  container.replaceChildren(line);
}

async function scoreSample(body, mediaType, name) {
  const container = document.getElementById("try-answer");
  const button = form.querySelector("button");
  const address = new URL(form.getAttribute("action"), location.href);
  const invert = document.getElementById("try-invert");
  const row = document.getElementById("try-row");
  if (invert) address.searchParams.set("invert", invert.value);
  if (row) address.searchParams.set("row", row.value || "0");
  button.disabled = true;
  try {
    const headers = { "content-type": mediaType, "x-file-name": encodeURIComponent(name) };
    const response = await fetch(address, { method: "POST", headers, body });
    const text = await response.text();
    if (response.ok) container.innerHTML = text; // rendered and escaped by the server
    else showError(container, text.trim() || `the page answers with status ${response.status}`);
  } catch (error) {
    showError(container, `the page does not answer (${error.message}): is it still running?`);
  } finally {
    button.disabled = false;
  }
}

if (form) {
  const fileInput = document.getElementById("try-file");
  const textArea = document.getElementById("try-text");
  const dropZone = document.getElementById("try-drop");
  const sendFile = (file) => scoreSample(file, mediaTypeOf(file), file.name);

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (fileInput.files.length) sendFile(fileInput.files[0]);
    else scoreSample(textArea.value, "text/plain", "pasted text");
  });
  fileInput.addEventListener("change", () => fileInput.files.length && sendFile(fileInput.files[0]));
  textArea.addEventListener("input", () => { fileInput.value = ""; }); // the last input counts
  for (const name of ["dragenter", "dragover"]) {
    dropZone.addEventListener(name, (event) => { event.preventDefault(); dropZone.classList.add("over"); });
  }
  dropZone.addEventListener("dragleave", () => dropZone.classList.remove("over"));
  dropZone.addEventListener("drop", (event) => {
    event.preventDefault();
    dropZone.classList.remove("over");
    if (event.dataTransfer.files.length) {
      fileInput.files = event.dataTransfer.files;
      sendFile(event.dataTransfer.files[0]);
    }
  });
}

// ---------------------------------------------------------------- the refresh

function withoutTimes(element) {
  const copy = element.cloneNode(true);
  for (const time of copy.querySelectorAll("time")) time.textContent = "";
  return copy.innerHTML;
}

function updateSections(newDocument) {
  for (const next of newDocument.querySelectorAll("[data-live]")) {
    const current = document.getElementById(next.id);
    if (!current || current.contains(document.activeElement) || current.innerHTML === next.innerHTML) continue;
    if (withoutTimes(current) === withoutTimes(next)) {
      const times = next.querySelectorAll("time");
      current.querySelectorAll("time").forEach((time, index) => { time.textContent = times[index].textContent; });
    } else {
      current.replaceWith(document.importNode(next, true));
    }
  }
}

async function refresh() {
  if (!document.hidden) {
    try {
      const response = await fetch(location.href, { headers: { accept: "text/html" } });
      if (response.ok) updateSections(new DOMParser().parseFromString(await response.text(), "text/html"));
      document.body.classList.remove("offline");
    } catch {
      document.body.classList.add("offline"); // the footer says that the content is out of date
    }
  }
  scheduleRefresh();
}

function scheduleRefresh() {
  setTimeout(refresh, document.querySelector("[data-loading]") ? LOADING_INTERVAL : REFRESH_INTERVAL);
}

scheduleRefresh();
