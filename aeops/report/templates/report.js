"use strict";
// The slider for the threshold. Its table stands in the attribute data-rows: [threshold, share of normals, share of novelty] each.
function startSlider(box) {
  const rows = JSON.parse(box.dataset.rows);
  const own = Number(box.dataset.own);
  const input = box.querySelector("input");
  const percent = (share) => (100 * share).toFixed(share < 0.1 ? 2 : 1) + " %";
  const count = (share, of) => Math.round(share * of).toLocaleString("en") + " of " + Number(of).toLocaleString("en");
  function show() {
    const [threshold, alarms, caught] = rows[Number(input.value)];
    box.querySelector("[data-part=threshold]").textContent = threshold.toPrecision(4);
    box.querySelector("[data-part=alarms]").textContent = percent(alarms) + ", " + count(alarms, box.dataset.normals);
    if (caught !== null) {
      box.querySelector("[data-part=caught]").textContent = percent(caught) + ", " + count(caught, box.dataset.novelty);
      box.querySelector("[data-part=missed]").textContent = percent(1 - caught);
    }
    input.setAttribute("aria-valuetext", "threshold " + threshold.toPrecision(4) + ", " + box.querySelector("[data-part=alarms]").previousElementSibling.textContent + " " + percent(alarms));
    box.querySelector("button").hidden = Number(input.value) === own;
  }
  input.max = rows.length - 1;
  input.value = own;
  input.addEventListener("input", show);
  box.querySelector("button").addEventListener("click", () => { input.value = own; show(); });
  box.hidden = false;
  show();
}

// Each figure gets a button that shows it as large as the window, in a dialog that Escape closes.
function startEnlarging(dialog) {
  for (const figure of document.querySelectorAll("main figure")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "enlarge";
    button.textContent = "Enlarge";
    button.setAttribute("aria-label", "Enlarge: " + (figure.querySelector("svg")?.getAttribute("aria-label") || "figure"));
    button.addEventListener("click", () => {
      const copies = [...figure.children].filter((part) => part !== button).map((part) => part.cloneNode(true));
      dialog.querySelector("div").replaceChildren(...copies);
      dialog.showModal();
    });
    figure.append(button);
  }
  dialog.querySelector("button").addEventListener("click", () => dialog.close());
}

// A series from near. The attribute data-series holds what aeops/evaluation/series_zoom.py writes. Dragging over a panel, or the
// buttons, choose the span of time; panels are drawn anew, with lowest and highest value where many steps share a pixel.
function startZoom(box) {
  const series = JSON.parse(box.dataset.series);
  const holder = box.querySelector(".panels");
  const namespace = holder.querySelector("svg").namespaceURI;
  const status = box.querySelector("[data-part=span]");
  const times = series.steps.map((step) => series.start + step * series.every);
  const whole = [times[0], times[times.length - 1] + series.every];
  const shortest = Math.min(whole[1] - whole[0], 8 * series.every);
  const left = 64, right = 10, top = 18, height = 96, gap = 26;
  const panels = series.channels.map((channel) => ({ title: channel.name, lines: [[channel.values, "readings"], [channel.reconstruction, "model"]] }));
  panels.push({ title: "score of a step", lines: [[series.scores, "model"]], level: series.threshold });
  let [from, to] = whole;
  let drawn = null;  // the axes that are on the screen

  const text = (seconds) => new Date(1000 * seconds).toISOString().slice(0, 19).replace("T", " ");
  const make = (name, attributes, content) => {
    const element = document.createElementNS(namespace, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (content !== undefined) element.textContent = content;
    return element;
  };
  const firstAfter = (seconds) => {
    let low = 0, high = times.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (times[middle] < seconds) low = middle + 1; else high = middle;
    }
    return low;
  };

  function niceStep(span, wanted, sizes) {
    for (const size of sizes) if (span / size <= wanted) return size;
    return sizes[sizes.length - 1] * Math.ceil(span / wanted / sizes[sizes.length - 1]);
  }

  function valueTicks(low, high) {
    const power = 10 ** Math.floor(Math.log10((high - low) / 3));
    const step = niceStep((high - low) / power, 4, [1, 2, 5, 10]) * power;
    const ticks = [];
    for (let tick = Math.ceil(low / step) * step; tick <= high; tick += step) ticks.push(Number(tick.toPrecision(10)));
    return ticks;
  }

  function range(panel, first, last) {
    let low = Infinity, high = -Infinity;
    for (const [values] of panel.lines) {
      for (let place = first; place < last; place++) {
        if (values[place] === null) continue;
        low = Math.min(low, values[place]);
        high = Math.max(high, values[place]);
      }
    }
    if (panel.level !== undefined) { low = Math.min(low, panel.level); high = Math.max(high, panel.level); }
    if (low > high) return [0, 1];
    const room = 0.06 * (high - low) || Math.abs(high) * 0.01 || 1;
    return [low - room, high + room];
  }

  function path(values, first, last, x, y) {
    const parts = [];
    let column = null, low = 0, high = 0, before = null;
    const put = (px, value) => parts.push((before === null ? "M" : "L") + px.toFixed(1) + " " + y(value).toFixed(1));
    const flush = () => {
      if (column === null) return;
      put(column, low);
      before = column;
      if (high !== low) put(column, high);
      column = null;
    };
    for (let place = first; place < last; place++) {
      const value = values[place];
      const isGap = place > first && times[place] - times[place - 1] > series.widest;
      if (value === null || isGap) { flush(); before = null; }
      if (value === null) continue;
      const px = Math.round(2 * x(times[place])) / 2;
      if (px !== column) { flush(); column = px; low = high = value; }
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    flush();
    return parts.join("");
  }

  function draw() {
    const width = Math.max(280, holder.clientWidth);
    const total = panels.length * (top + height) + gap;
    const x = (seconds) => left + (seconds - from) / (to - from) * (width - left - right);
    const first = Math.max(0, firstAfter(from) - 1), last = Math.min(times.length, firstAfter(to) + 1);
    const label = "The series from " + text(from) + " to " + text(to) + " UTC: channels, reconstruction, scores and alarms";
    const svg = make("svg", { width, height: total, viewBox: `0 0 ${width} ${total}`, role: "img", "aria-label": label });
    panels.forEach((panel, index) => {
      const y0 = index * (top + height) + top;
      const [low, high] = range(panel, first, last);
      const y = (value) => y0 + height - (value - low) / (high - low) * height;
      svg.append(make("text", { x: left, y: y0 - 5, class: "title" }, panel.title));
      const frame = { x: left, y: y0, width: width - left - right, height };
      const inside = make("svg", { ...frame, viewBox: `${left} ${y0} ${frame.width} ${height}` });  // which clips
      const spans = [[series.training, "training"], [series.known, "known"], [series.alarms, "alarmed"]];
      for (const [intervals, name] of spans) {
        for (const [start, end] of intervals) {
          if (end < from || start > to) continue;
          inside.append(make("rect", { x: x(start), y: y0, width: Math.max(1.5, x(end) - x(start)), height, class: name }));
        }
      }
      for (const tick of valueTicks(low, high)) {
        svg.append(make("text", { x: left - 6, y: y(tick) + 4, class: "tick end" }, String(tick)));
        inside.append(make("line", { x1: left, x2: width - right, y1: y(tick), y2: y(tick), class: "rule" }));
      }
      for (const [values, name] of panel.lines) inside.append(make("path", { d: path(values, first, last, x, y), class: "line " + name }));
      if (panel.level !== undefined) {
        inside.append(make("line", { x1: left, x2: width - right, y1: y(panel.level), y2: y(panel.level), class: "level" }));
      }
      svg.append(inside, make("rect", { ...frame, class: "border" }));
    });
    const hour = 3600, day = 24 * hour;
    const sizes = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, hour, 2 * hour, 6 * hour, 12 * hour, day, 2 * day, 7 * day, 30 * day, 91 * day, 365 * day];
    const step = niceStep(to - from, Math.max(2, width / 150), sizes);
    for (let tick = Math.ceil(from / step) * step; tick <= to; tick += step) {
      const name = step >= day ? text(tick).slice(0, 10) : step >= 60 ? text(tick).slice(5, 16) : text(tick).slice(11);
      svg.append(make("text", { x: x(tick), y: total - 8, class: "tick middle" }, name));
      svg.append(make("line", { x1: x(tick), x2: x(tick), y1: total - gap, y2: total - gap + 5, class: "rule" }));
    }
    holder.replaceChildren(svg);
    drawn = { svg, width, total };
    status.textContent = text(from) + " to " + text(to) + " UTC";
    for (const button of box.querySelectorAll("button")) button.disabled = isIdle(button.dataset.zoom);
  }

  function isIdle(what) {
    if (what === "out" || what === "whole") return from <= whole[0] && to >= whole[1];
    if (what === "in") return to - from <= shortest;
    if (what === "earlier") return from <= whole[0];
    if (what === "later") return to >= whole[1];
    return series.alarms.length === 0;
  }

  function show(start, end) {
    const length = Math.min(whole[1] - whole[0], Math.max(shortest, end - start));
    from = Math.min(Math.max(whole[0], (start + end - length) / 2), whole[1] - length);
    to = from + length;
    draw();
  }

  function showAlarm(direction) {
    const middle = (from + to) / 2;
    const centres = series.alarms.map(([start, end]) => (start + end) / 2).sort((a, b) => a - b);
    const edge = Math.max(series.every, 1);
    const beside = direction > 0 ? centres.find((one) => one > middle + edge) : centres.findLast((one) => one < middle - edge);
    const target = beside ?? (direction > 0 ? centres[0] : centres[centres.length - 1]);
    const [start, end] = series.alarms.find(([one, other]) => (one + other) / 2 === target);
    const room = Math.max(6 * series.window, 2 * (end - start));
    show(target - room, target + room);
  }

  const moves = {
    in: () => show(from + (to - from) / 4, to - (to - from) / 4),
    out: () => show(from - (to - from) / 2, to + (to - from) / 2),
    earlier: () => show(from - (to - from) / 2, to - (to - from) / 2),
    later: () => show(from + (to - from) / 2, to + (to - from) / 2),
    whole: () => show(...whole),
    before: () => showAlarm(-1),
    after: () => showAlarm(1),
  };
  for (const button of box.querySelectorAll("button")) button.addEventListener("click", () => moves[button.dataset.zoom]());

  let pressed = null;
  const place = (event) => Math.min(Math.max(event.clientX - holder.getBoundingClientRect().left, left), drawn.width - right);
  const moment = (px) => from + (px - left) / (drawn.width - left - right) * (to - from);
  holder.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    const mark = make("rect", { x: place(event), y: 0, width: 0, height: drawn.total - gap, class: "chosen" });
    drawn.svg.append(mark);
    pressed = { start: place(event), mark };
    holder.setPointerCapture(event.pointerId);
  });
  holder.addEventListener("pointermove", (event) => {
    if (!pressed) return;
    const now = place(event);
    pressed.mark.setAttribute("x", Math.min(now, pressed.start));
    pressed.mark.setAttribute("width", Math.abs(now - pressed.start));
  });
  const release = (event) => {
    if (!pressed) return;
    const [low, high] = [pressed.start, place(event)].sort((a, b) => a - b);
    pressed.mark.remove();
    pressed = null;
    if (event.type === "pointerup" && high - low >= 5) show(moment(low), moment(high));
  };
  holder.addEventListener("pointerup", release);
  holder.addEventListener("pointercancel", release);
  holder.addEventListener("dblclick", moves.whole);

  box.hidden = false;
  draw();
  new ResizeObserver(() => { if (Math.max(280, holder.clientWidth) !== drawn.width) draw(); }).observe(holder);
}

const slider = document.getElementById("slider");
if (slider) startSlider(slider);
startEnlarging(document.getElementById("larger"));
const closer = document.getElementById("zoom");
if (closer) startZoom(closer);
