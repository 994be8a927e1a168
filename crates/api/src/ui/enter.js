// Gives the code behind `#`, which is good once, for the token, which the dashboard finds in the storage of this tab.
async function enter() {
  const code = location.hash.replace(/^#code=/, "");
  history.replaceState(null, "", location.pathname);
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

function say(error) {
  document.getElementById("said").textContent = error.message;
}

enter().catch(say);
// A new code in a tab that an old one was refused in changes nothing but the address.
addEventListener("hashchange", () => location.hash && enter().catch(say));
