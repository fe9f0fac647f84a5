"""Part 0: what the lessons themselves need: the parity ledger, the exercises, the house style of figures."""
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "exercises": ["Card", "Result", "check", "hint", "solution"],
        "exercises_copy": ["CourseCopy", "CourseError", "copy_course"],
        "exercises_progress": ["Progress", "progress"],
        "exercises_source": ["Exercise", "ExerciseError", "find_exercise", "read_exercises"],
        "home": ["home_path", "share_path", "writing", "writing_folder"],
        "ledger": ["CostPanel", "Ledger", "ParityError", "check_gradient", "cost_panel"],
        "style": ["GREY", "PALETTE", "animate", "use_style"],
    },
)
