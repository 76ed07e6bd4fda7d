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
    input.setAttribute("aria-valuetext", "threshold " + threshold.toPrecision(4) + ", false alarms " + percent(alarms));
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

const slider = document.getElementById("slider");
if (slider) startSlider(slider);
startEnlarging(document.getElementById("larger"));
