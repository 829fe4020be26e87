//! What not every machine can do. A test that needs it fails where it is missing, unless `PYEXEC_TEST_SKIP` says that this is
//! meant: then it passes without having looked at anything.

/// Names of what may be missing, separated by commas.
const VARIABLE: &str = "PYEXEC_TEST_SKIP";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ability {
    OtherUsers,
    RealTime,
    Namespaces,
    Fuse,
    ControlGroups,
    Tracing,
    SystemdAnalyze,
}

const ALL: [Ability; 7] = [
    Ability::OtherUsers,
    Ability::RealTime,
    Ability::Namespaces,
    Ability::Fuse,
    Ability::ControlGroups,
    Ability::Tracing,
    Ability::SystemdAnalyze,
];

impl Ability {
    /// As `PYEXEC_TEST_SKIP` has it.
    fn name(self) -> &'static str {
        match self {
            Ability::OtherUsers => "other_users",
            Ability::RealTime => "real_time",
            Ability::Namespaces => "namespaces",
            Ability::Fuse => "fuse",
            Ability::ControlGroups => "control_groups",
            Ability::Tracing => "tracing",
            Ability::SystemdAnalyze => "systemd_analyze",
        }
    }

    fn what_it_takes(self) -> &'static str {
        match self {
            Ability::OtherUsers => "root, and /usr/bin/python3, to become another user",
            Ability::RealTime => "real-time classes and lower nice values",
            Ability::Namespaces => "namespaces of its own (`unshare`)",
            Ability::Fuse => "/dev/fuse, and the right to open it",
            Ability::ControlGroups => "a control group in which groups can be made",
            Ability::Tracing => "the right to trace a process that is not its child",
            Ability::SystemdAnalyze => "/usr/bin/systemd-analyze",
        }
    }
}

/// Whether to go on with a test that needs this, which is there or not.
///
/// # Panics
/// Where it is missing, and that is not meant.
#[track_caller]
pub(crate) fn can(ability: Ability, is_there: bool) -> bool {
    match decide(ability, is_there, &std::env::var(VARIABLE).unwrap_or_default()) {
        Ok(goes_on) => goes_on,
        Err(problem) => panic!("{problem}"),
    }
}

fn decide(ability: Ability, is_there: bool, skipped: &str) -> Result<bool, String> {
    let skipped: Vec<&str> = skipped.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let known = ALL.map(Ability::name);
    if let Some(unknown) = skipped.iter().find(|name| !known.contains(name)) {
        return Err(format!("{VARIABLE} names `{unknown}`, which is none of {}", known.join(", ")));
    }
    match (is_there, skipped.contains(&ability.name())) {
        (true, _) => Ok(true),
        (false, true) => Ok(false),
        (false, false) => Err(format!(
            "this test takes {}, which is missing here; if that is meant, set {VARIABLE}={}",
            ability.what_it_takes(),
            ability.name()
        )),
    }
}

#[test]
fn what_is_missing_fails_a_test_unless_it_is_named() {
    let ability = Ability::OtherUsers;
    assert_eq!(decide(ability, true, ""), Ok(true));
    assert_eq!(decide(ability, true, "other_users"), Ok(true), "what can be tested is");
    assert_eq!(decide(ability, false, "fuse, other_users"), Ok(false));
    for skipped in ["", "fuse"] {
        let refused = decide(ability, false, skipped).expect_err("is not meant");
        assert!(refused.contains("root") && refused.contains("PYEXEC_TEST_SKIP=other_users"), "{refused}");
    }
    assert!(decide(ability, true, "other-users").is_err_and(|refused| refused.contains("`other-users`")));
}
