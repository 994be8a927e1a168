// Gives the code behind `#`, which is good once, for the token, which the dashboard finds in the storage of this tab.
const code = location.hash.replace(/^#code=/, "");
history.replaceState(null, "", location.pathname);

async function enter() {
  const answer = await fetch("../dashboard/token", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ code }),
  });
  const body = await answer.json();
  if (!answer.ok) throw new Error([body.error.message, body.error.hint].filter(Boolean).join(": "));
  sessionStorage.setItem("corral-token", body.token);
  location.replace("./");
}

enter().catch((error) => {
  document.getElementById("said").textContent = error.message;
});
