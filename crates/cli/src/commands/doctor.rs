//! `corral doctor`

use corral_daemon::{Environment, Finding, Status};
use serde::Serialize;

use super::Outcome;
use crate::exit;
use crate::output::{BAD, BOLD, BUSY, GOOD, Output, Paint};
use crate::table::{Cell, table};

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    findings: Vec<Finding>,
}

/// Says what is missing.
pub(crate) fn doctor(env: &Environment, out: &mut Output) -> Outcome {
    let report = Report { findings: corral_daemon::doctor(env) };
    if out.json {
        out.json(&report)?;
    } else {
        out.text(&render(&report.findings, out.paint))?;
    }
    let problem = report.findings.iter().any(|finding| finding.status == Status::Problem);
    Ok(if problem { exit::FAILED } else { exit::DONE })
}

fn render(findings: &[Finding], paint: Paint) -> String {
    let mut rows = Vec::new();
    for finding in findings {
        let (mark, style) = match finding.status {
            Status::Ok => ("✓", GOOD),
            Status::Warning => ("!", BUSY),
            Status::Problem => ("✗", BAD),
        };
        rows.push(vec![Cell::new(mark).style(style), Cell::new(&finding.check), Cell::new(&finding.message)]);
        // A line of its own, to be copied.
        for line in finding.remedy.iter().flat_map(|remedy| remedy.lines()) {
            rows.push(vec![Cell::new(""), Cell::new(""), Cell::new(line).style(BOLD)]);
        }
    }
    let count = |status| findings.iter().filter(|finding| finding.status == status).count();
    let verdict = match (count(Status::Problem), count(Status::Warning)) {
        (0, 0) => "all is well".to_owned(),
        (0, warnings) => format!("nothing is wrong; {warnings} of these could be better"),
        (1, _) => "1 of these keeps some or all models from being loaded".to_owned(),
        (problems, _) => format!("{problems} of these keep some or all models from being loaded"),
    };
    format!("{}\n{verdict}\n", table(&rows, paint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(check: &str, status: Status, message: &str, remedy: Option<&str>) -> Finding {
        let [check, message] = [check, message].map(str::to_owned);
        Finding { check, status, message, remedy: remedy.map(str::to_owned) }
    }

    #[test]
    fn each_finding_has_a_mark_and_its_command_a_line() {
        let mut findings = vec![
            finding("catalog", Status::Ok, "3 models", None),
            finding("gpu", Status::Warning, "none was found", Some("nvidia-smi")),
            finding("docker", Status::Problem, "it does not run", Some("sudo systemctl start docker\ndocker info")),
        ];
        let expected = concat!(
            "✓  catalog  3 models\n",
            "!  gpu      none was found\n",
            "            nvidia-smi\n",
            "✗  docker   it does not run\n",
            "            sudo systemctl start docker\n",
            "            docker info\n",
            "\n",
            "1 of these keeps some or all models from being loaded\n",
        );
        assert_eq!(render(&findings, Paint(false)), expected);
        findings.push(finding("ports", Status::Problem, "taken", None));
        let verdict = "\n2 of these keep some or all models from being loaded\n";
        assert!(render(&findings, Paint(false)).ends_with(verdict));
        findings.truncate(2);
        assert!(render(&findings, Paint(false)).ends_with("\nnothing is wrong; 1 of these could be better\n"));
        findings.truncate(1);
        assert!(render(&findings, Paint(false)).ends_with("\nall is well\n"));
    }
}
