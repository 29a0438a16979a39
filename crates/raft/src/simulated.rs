//! The simulation as a test: sound machines pass, broken ones are found.

use super::simulation::{NOT_BACK, Options, run};
use crate::Raft;
use crate::machine::Mutation;

const SEEDS: u64 = 150;

#[test]
fn clusters_keep_their_promises_whatever_happens() {
    for seed in 0..SEEDS {
        if let Err(failure) = run(seed, Options::default()) {
            panic!("seed {seed}: {}", failure.0);
        }
    }
}

#[test]
fn the_same_seed_is_the_same_story() {
    let story = || format!("{:?}", run(7, Options::default()));
    assert_eq!(story(), story());
}

/// The first seed that shows the mutation, and what it shows.
fn find(prepare: fn(&mut Raft), seeds: u64) -> Option<(u64, String)> {
    let options = Options {
        prepare: Some(prepare),
        ..Options::default()
    };
    let broken = |seed| run(seed, options).err().map(|failure| (seed, failure.0));
    (0..seeds).find_map(|seed| broken(seed).filter(|(_, text)| text != NOT_BACK))
}

macro_rules! mutations {
    ($($name:ident: $mutation:ident, $seeds:literal;)*) => {
        $(
            #[test]
            fn $name() {
                let found = find(|raft| raft.mutation = Some(Mutation::$mutation), $seeds);
                println!("{}: {found:?}", stringify!($mutation));
                assert!(found.is_some(), "{} passes", stringify!($mutation));
            }
        )*
    };
}

mutations! {
    an_answer_before_it_is_durable_is_noticed: AnswerBeforeDurable, 1000;
    a_leader_that_counts_its_own_copy_early_is_noticed: CountOwnCopyEarly, 1000;
    votes_that_are_forgotten_are_noticed: ForgetVotes, 1000;
    two_votes_in_a_term_are_noticed: VoteTwice, 1000;
    a_vote_for_an_old_log_is_noticed: VoteForOldLog, 1000;
    a_majority_that_is_none_is_noticed: CommitByMinority, 1000;
    entries_that_do_not_follow_are_noticed: SkipPreviousCheck, 1000;
    conflicts_that_are_kept_are_noticed: KeepConflicts, 1000;
    two_changes_of_servers_at_once_are_noticed: ChangeServersAtOnce, 1000;
    prerequisites_that_are_ignored_are_noticed: IgnorePrerequisites, 1000;
    success_before_commit_is_noticed: SucceedBeforeCommit, 1000;
    a_snapshot_of_what_is_not_committed_is_noticed: CompactUncommitted, 1000;
}
