// The try-it box, and a gentle refresh. Everything else on the page works without.
"use strict";

const EVERY = 15000; // milliseconds between two looks for news
const SOON = 1500; // while some answers are still on their way

// ---------------------------------------------------------------- the try-it box

const form = document.getElementById("try-form");

function kindOf(file) {
  if (/\.npy$/i.test(file.name)) return "application/x-npy";
  if (/\.txt$/i.test(file.name)) return "text/plain";
  return file.type || "application/octet-stream";
}

function tell(answer, text) {
  const line = document.createElement("p");
  line.className = "error";
  line.textContent = text;
  answer.replaceChildren(line);
}

async function score(body, kind, name) {
  const answer = document.getElementById("try-answer");
  const button = form.querySelector("button");
  const address = new URL(form.getAttribute("action"), location.href);
  const invert = document.getElementById("try-invert");
  const row = document.getElementById("try-row");
  if (invert) address.searchParams.set("invert", invert.value);
  if (row) address.searchParams.set("row", row.value || "0");
  button.disabled = true;
  try {
    const headers = { "content-type": kind, "x-file-name": encodeURIComponent(name) };
    const reply = await fetch(address, { method: "POST", headers, body });
    const text = await reply.text();
    if (reply.ok) answer.innerHTML = text; // made and escaped by the server
    else tell(answer, text.trim() || `the page answers with ${reply.status}`);
  } catch (error) {
    tell(answer, `the page does not answer (${error.message}): is it still running?`);
  } finally {
    button.disabled = false;
  }
}

if (form) {
  const field = document.getElementById("try-file");
  const text = document.getElementById("try-text");
  const drop = document.getElementById("try-drop");
  const send = (file) => score(file, kindOf(file), file.name);

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (field.files.length) send(field.files[0]);
    else score(text.value, "text/plain", "what was pasted");
  });
  field.addEventListener("change", () => field.files.length && send(field.files[0]));
  text.addEventListener("input", () => { field.value = ""; }); // what was given last counts
  for (const name of ["dragenter", "dragover"]) {
    drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
  }
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    if (event.dataTransfer.files.length) {
      field.files = event.dataTransfer.files;
      send(event.dataTransfer.files[0]);
    }
  });
}

// ---------------------------------------------------------------- the refresh

function withoutTimes(element) {
  const copy = element.cloneNode(true);
  for (const time of copy.querySelectorAll("time")) time.textContent = "";
  return copy.innerHTML;
}

function renew(fresh) {
  for (const next of fresh.querySelectorAll("[data-live]")) {
    const shown = document.getElementById(next.id);
    if (!shown || shown.contains(document.activeElement) || shown.innerHTML === next.innerHTML) continue;
    if (withoutTimes(shown) === withoutTimes(next)) {
      const times = next.querySelectorAll("time");
      shown.querySelectorAll("time").forEach((time, place) => { time.textContent = times[place].textContent; });
    } else {
      shown.replaceWith(document.importNode(next, true));
    }
  }
}

async function refresh() {
  if (!document.hidden) {
    try {
      const reply = await fetch(location.href, { headers: { accept: "text/html" } });
      if (reply.ok) renew(new DOMParser().parseFromString(await reply.text(), "text/html"));
      document.body.classList.remove("gone");
    } catch {
      document.body.classList.add("gone"); // the footer says that what is shown is old
    }
  }
  wait();
}

function wait() {
  setTimeout(refresh, document.querySelector("[data-waiting]") ? SOON : EVERY);
}

wait();
